"""The runner counts what pytest came to, and notices what pytest cannot count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import run

pytestmark = pytest.mark.on_one_backend
BACKEND = "torch"


def of(tmp_path, capfd, code, *arguments, backends=(BACKEND,)):
    """Runs the tests in `code`. Returns the exit status and the lines that were printed."""
    file = tmp_path / "test_some.py"
    file.write_text("import os, signal, pytest\n" + code)
    status = run.main([*backends, "--", str(file), "-p", "no:cacheprovider", *arguments])
    return status, capfd.readouterr().out.splitlines()


def test_counts(tmp_path, capfd):
    code = """
@pytest.fixture
def broken():
    raise ValueError("an error, not a failure")

@pytest.mark.parametrize("x", range(4))
def test_passes(x):
    assert os.environ["KERAS_BACKEND"] == "torch"
def test_fails():
    assert False
def test_errs(broken):
    pass
@pytest.mark.skip
def test_is_skipped():
    assert False
@pytest.mark.xfail
def test_fails_as_expected():
    assert False
"""
    status, lines = of(tmp_path, capfd, code)
    assert status == 1
    assert lines[-1] == "4 passed, 2 failed, 2 skipped"
    assert any("[100%]" in line for line in lines), "progress is shown"


def test_what_passes_beside_a_backend_that_is_not_there(tmp_path, capfd):
    code = "def test_passes(): pass"
    status, lines = of(tmp_path, capfd, code)
    assert (status, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped")
    status, lines = of(tmp_path, capfd, code, backends=["no_such_backend", BACKEND])
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")
    assert "0 passed, 1 failed, 0 skipped (no_such_backend is not installed)" in lines[-3]


def test_a_crash_fails(tmp_path, capfd):
    code = """
def test_passes(): pass
def test_crashes(): os.kill(os.getpid(), signal.SIGKILL)
"""
    status, lines = of(tmp_path, capfd, code)
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-k", "no_such_name"], "no test was collected"),
        (["--no-such-option"], "pytest's exit status is 4"),
    ],
)
def test_nothing_run_fails(arguments, problem, tmp_path, capfd):
    status, lines = of(tmp_path, capfd, "def test_passes(): pass", *arguments)
    assert (status, lines[-1]) == (1, "0 passed, 1 failed, 0 skipped")
    assert problem in lines[-2]


@pytest.mark.parametrize("in_shell", [signal.SIG_DFL, signal.SIG_IGN])  # SIG_IGN: by `&`
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_is_stopped_with_all_its_processes(number, in_shell, tmp_path):
    started = tmp_path / "started"
    file = tmp_path / "test_some.py"
    # What it started holds its end of a pipe for as long as it lives.
    file.write_text(f"""
import pathlib, time
def test_sleeps():
    pathlib.Path({str(started)!r}).touch()
    time.sleep(600)
""")
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, Path(run.__file__), BACKEND, "--", file, "-p", "no:cacheprovider"],
        stdout=write,
        stderr=write,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, in_shell),
    )
    os.close(write)
    end = time.monotonic() + 120
    while not started.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(number)
    with open(read) as output:
        said = output.read()  # comes to its end when the last process has ended
    assert process.wait() == 130
    assert said.splitlines()[-1] == "Interrupted."
