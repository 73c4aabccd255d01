"""The command that makes tables: what it runs, what it leaves out, and how it ends."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from reproduction import command, configs, runs
from reproduction.locks import locked

pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")
EXAMPLES = Path(__file__).parents[2] / "examples"
CELL = ["--table", "4", "--columns", "imbalance 100", "--scale", "smoke"]


def reproduce(*arguments, out):
    command.main(arguments=[*CELL, *arguments, "--out", str(out)])


def test_runs_fail_alone_and_finished_ones_are_not_repeated(monkeypatch, tmp_path, capsys):
    real = configs.config_of

    def config_of(table, column, row, *arguments, **keywords):
        config = real(table, column, row, *arguments, **keywords)
        config["training"]["epochs"] = 1
        if row["name"] == "focal":
            config["network"]["depth"] = 9  # there is no such ResNet
        return config

    monkeypatch.setattr(configs, "config_of", config_of)
    with pytest.raises(SystemExit, match="1"):
        reproduce("--rows", "focal;LA", out=tmp_path)
    said = capsys.readouterr().out
    assert "focal, imbalance 100, seed 0: FAILED, ValueError: `depth` must be 6n + 2" in said
    assert "LA, imbalance 100, seed 0: epoch 1/1, loss" in said
    assert "1 runs failed; the same command tries them again." in said
    (result,) = tmp_path.glob("*.json")
    content = json.loads(result.read_text())
    assert content["config"]["data"] == {"name": "digits", "imbalance": 20}
    assert len(content["class_accuracy"]) == 10
    assert content["steps_per_second"] > 0
    written = (tmp_path / "table4_smoke.md").read_text()
    assert "Scale *smoke*: digits" in written
    assert "22.33" not in written  # the paper's number says nothing beside a smoke run

    before = result.stat().st_mtime_ns
    reproduce("--rows", "LA", out=tmp_path)
    assert result.stat().st_mtime_ns == before
    assert "epoch" not in capsys.readouterr().out.split("**Table")[0]


def test_runs_at_a_time_share_the_processors(monkeypatch):
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 8)
    assert runs.shared_environment(jobs=1) == {}
    for jobs, threads in ((3, "2"), (20, "1")):
        shared = runs.shared_environment(jobs)
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "NPROC"):
            assert shared[name] == threads


def test_the_command_loads_no_framework(tmp_path):
    code = """
import sys
from reproduction import command
command.main(arguments=sys.argv[1:])
print([name for name in ("keras", "tensorflow", "jax", "torch") if name in sys.modules])
"""
    arguments = [*CELL, "--rows", "LA", "--dry-run", "--out", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        check=True,
    )
    run, loaded = result.stdout.splitlines()
    assert run.startswith("LA, imbalance 100, seed 0  (digits_if20_resnet8_2epochs_")
    assert loaded == "[]"


# The command with a training of the test's, in the processes of its runs too.
STAND_IN = """
import importlib, sys, time, types
sys.path.insert(0, {examples!r})
{training}
import reproduction
reproduction.training = types.SimpleNamespace(run=run)
from reproduction import command, runs
runs.COMMAND = [sys.executable, __file__, "--child"]
command.main()
"""
ENDLESS = """
from reproduction.locks import locked
def run(config, out, data, report, waits):
    out.mkdir(exist_ok=True)
    with locked(out / "lock", waits):
        report(1, {"loss": 0.5, "accuracy": 0.5, "seconds": 1.0})
        time.sleep(600)
"""


DIES = """
if "--child" in sys.argv:
    raise RuntimeError("this and that")
run = None
"""


def start(training, folder, *arguments):
    """Starts the command with a training of its own."""
    script = folder / "script.py"
    script.write_text(STAND_IN.format(examples=str(EXAMPLES), training=training))
    options = [*CELL, "--rows", "LA", "--out", str(folder / "out"), *arguments]
    return subprocess.Popen(
        [sys.executable, script, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_locked(file):
    with open(file) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_ends_with_the_command(number, tmp_path):
    process = start(ENDLESS, tmp_path)
    lock = tmp_path / "out" / "lock"
    for line in process.stdout:
        if "epoch 1/2" in line:
            break
    assert is_locked(lock)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert ("The same command goes on where it stopped." in errors) == (number == signal.SIGINT)
    wait_until(lambda: not is_locked(lock))


def test_the_output_of_a_run_that_dies_at_once_is_kept(tmp_path):
    process = start(DIES, tmp_path)
    said, _ = process.communicate(timeout=120)
    assert "LA, imbalance 100, seed 0: FAILED, RuntimeError: this and that (all of it: " in said
    (log,) = (tmp_path / "out" / "failed").iterdir()
    assert log.read_text().startswith("Traceback")


def test_a_lock_waits_for_its_holder_and_ends_with_it(tmp_path):
    file, waited_for, held = tmp_path / "lock", [], threading.Event()
    code = (
        "import sys, time; from reproduction.locks import locked\n"
        "with locked(sys.argv[1]): print('holds', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, file],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "holds\n"

    def hold():
        with locked(file, waited_for.append):
            held.set()

    thread = threading.Thread(target=hold)
    thread.start()
    wait_until(lambda: waited_for)
    assert waited_for == [str(holder.pid)]
    assert not held.wait(0.2)
    holder.kill()
    assert held.wait(120)
    thread.join()
    holder.communicate()
    with locked(file, waited_for.append):  # the file that is left does not lock anything
        assert len(waited_for) == 1


def test_two_commands_do_not_make_the_same_run(monkeypatch, tmp_path):
    from reproduction import training

    made, waited_for = [], []
    started, goes_on = threading.Event(), threading.Event()

    def train(config, folder, data_dir, report):
        made.append(config)
        started.set()
        assert goes_on.wait(120)
        return {"balanced_error": 0.25}

    monkeypatch.setattr(training, "train", train)
    config = {"data": {"name": "digits"}, "network": {"name": "resnet"}, "seed": 0}
    config |= {"method": "LPL", "training": {"epochs": 1}}
    results = []

    def run():
        results.append(training.run(config, tmp_path, waits=waited_for.append))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert started.wait(120)
    threads[1].start()
    wait_until(lambda: waited_for)
    goes_on.set()
    for thread in threads:
        thread.join()
    assert made == [config]
    assert results == 2 * [{"balanced_error": 0.25}]
    assert [path.name for path in tmp_path.iterdir()] == [f"{configs.run_name(config)}.json"]


# The real training, of four epochs. The first time it rests after the second one.
SLOW = """
from reproduction import configs
of_recipe = configs.config_of
def config_of(*arguments, **keywords):
    config = of_recipe(*arguments, **keywords)
    config["training"]["epochs"] = 4
    return config
configs.config_of = config_of
def run(config, out, data, report, waits):
    def slowly(epoch, logs):
        report(epoch, logs)
        time.sleep(600 if epoch == 2 and not (out / "goes on").exists() else 0)
    training = importlib.import_module("reproduction.training")
    training.run(config, out, data, slowly, waits)
"""


def test_killed_in_the_middle_the_same_command_goes_on(tmp_path):
    process = start(SLOW, tmp_path)
    for line in process.stdout:
        if "epoch 2/4" in line:
            break
    process.kill()
    process.communicate()
    out = tmp_path / "out"
    (lock,) = out.glob("*/lock")
    wait_until(lambda: not is_locked(lock))
    assert not list(out.glob("*.json"))
    (out / "goes on").touch()
    said, errors = start(SLOW, tmp_path).communicate(timeout=600)
    assert "epoch 3/4" in said, errors
    assert "epoch 2/4" not in said
    (result,) = out.glob("*.json")
    curve = json.loads(result.read_text())["curve"]
    assert len(curve) == 4
    assert np.isfinite([epoch["loss"] for epoch in curve]).all()
    assert "| LA | " in (out / "table4_smoke.md").read_text()
