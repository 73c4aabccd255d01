"""Recipes, the plan made of them, what is run, and the tables made of the results."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_lpl

pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def everything():
    """Every table, column, row and scale."""
    sys.path.insert(0, str(EXAMPLES))
    import reproduction

    sys.path.pop(0)
    for name in reproduction.tables():
        table = reproduction.read(name)
        for scale in reproduction.SCALES:
            for column in table["columns"]:
                for row in table["rows"]:
                    yield table, column, row, scale


def test_every_recipe_is_whole():
    import reproduction
    from methods import METHODS
    from training import METHOD_ARGUMENTS, run_name

    names = {}
    for table, column, row, scale in everything():
        config = reproduction.config_of(table, column, row, scale)
        assert config["method"] in METHODS
        arguments = dict(config["network"])
        make = getattr(keras_lpl.networks, arguments.pop("name"))
        inspect.signature(make).bind(**arguments)
        assert set(row) <= {"name", "method", "paper", "network", "grid", *METHOD_ARGUMENTS}
        assert set(row.get("paper", {})) <= {column["name"] for column in table["columns"]}
        training = config["training"]
        assert len(training["milestones"]) == len(training["factors"])
        for candidate in reproduction.candidates(config, row):
            assert candidate["data"]["held_out"] == reproduction.HELD_OUT
            assert set(candidate) - {"data", "seed"} >= set(config) - {"data", "seed"}
        if scale == "full":
            # One file for each of them, but where two tables have the very same run.
            names.setdefault(run_name(config), set()).add(json.dumps(config, sort_keys=True))
    assert all(len(configs) == 1 for configs in names.values())


def test_the_recipe_of_the_long_tail():
    import reproduction
    from training import learning_rate

    table = reproduction.read("4")
    row = reproduction.selected(table["rows"], "la+lpl", "row")[0]
    config = reproduction.config_of(table, table["columns"][0], row, "full")
    training = config["training"]
    rates = [learning_rate(epoch, training) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    np.testing.assert_allclose(rates, [1 / 60, 5 / 60, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    assert (training["epochs"], training["batch_size"], training["weight_decay"]) == (
        200,
        128,
        2e-4,
    )


def test_rows_are_found_by_their_names():
    import reproduction

    rows = reproduction.read("3")["rows"]
    found = reproduction.selected(rows, "LPL,LA+LPL", "row")
    assert [row["name"] for row in found] == ["LPL, varied bound", "LA + LPL"]
    for name in ("LPL, varied bound", "LPL, fixed bound", "LA"):  # as they are listed
        assert [row["name"] for row in reproduction.selected(rows, name, "row")] == [name]
    found = reproduction.selected(rows, "LPL, varied bound; LA", "row")
    assert [row["name"] for row in found] == ["LA", "LPL, varied bound"]
    assert reproduction.selected(rows, None, "row") == rows
    for name in ("nonsense", "", " ; LA"):  # an empty name is no wish for all of them, or for none
        with pytest.raises(SystemExit, match=r"no row '(nonsense)?'\. There are: cross-entropy; "):
            reproduction.selected(rows, name, "row")
    with pytest.raises(SystemExit, match=r"no table '99'\. There are: 1, 2, 3, 4, 6, map, net"):
        reproduction.read("99")


def test_a_search_sees_no_test_image():
    import training

    data = {"name": "digits", "imbalance": 10}
    (x, _), (x_test, _), counts = training.load(data)
    (x_rest, _), (x_held, y_held), rest = training.load({**data, "held_out": 0.2})
    tests = {image.tobytes() for image in x_test}
    known = {image.tobytes() for image in x}
    assert all(image.tobytes() in known for image in x_held)
    assert not any(image.tobytes() in tests for image in x_held)
    assert len(x_rest) + len(x_held) == len(x)
    held = np.bincount(y_held, minlength=10)
    np.testing.assert_array_equal(rest + held, counts)
    np.testing.assert_allclose(held, 0.2 * counts, atol=1)


def fake(out, config, error):
    from common import write_json
    from training import run_name

    shots = {f"{shot}_shot_accuracy": 1 - error for shot in ("many", "medium")}
    result = {
        "method": config["method"], "backend": "jax", "config": config,
        "balanced_error": error, **shots, "few_shot_accuracy": None,
    }  # fmt: skip
    write_json(out / f"{run_name(config)}.json", result)


def test_the_table_beside_the_papers_numbers(tmp_path):
    import reproduction

    table = reproduction.read("4")
    column = table["columns"][0]
    (row,) = reproduction.selected(table["rows"], "LA", "row")
    for seed, error in enumerate((0.20, 0.22, 0.27)):
        fake(tmp_path, reproduction.config_of(table, column, row, "small", seed), error)
    text = reproduction.markdown("4", "small", tmp_path)
    assert "| LA | 23.00 ± 3.61 | 3 | 77.00 ± 3.61 | 77.00 ± 3.61 | - | 22.33 |" in text
    assert "Scale *small*: cifar10, resnet 20, 30 epochs, mixed_bfloat16, jax" in text
    assert "imbalance 10." not in text  # nothing was run for it
    with pytest.raises(SystemExit, match="no results of table 4 at scale full"):
        reproduction.markdown("4", "full", tmp_path)


def test_the_search_takes_what_is_best_on_held_out_data(tmp_path):
    import reproduction

    table = reproduction.read("4")
    column = table["columns"][0]
    (row,) = reproduction.selected(table["rows"], "LA", "row")
    config = reproduction.config_of(table, column, row, "small", seed=1)
    points = reproduction.candidates(config, row)
    assert [point["tau"] for point in points] == [0.5, 1.0, 1.5, 2.0, 2.5]
    for point, error in zip(points[:-1], (0.4, 0.3, 0.2, 0.5), strict=True):
        fake(tmp_path, point, error)
    assert reproduction.with_best(config, row, tmp_path) is None  # one is missing
    fake(tmp_path, points[-1], 0.6)
    best = reproduction.with_best(config, row, tmp_path)
    assert best == {**config, "tau": 1.5}
    fake(tmp_path, {**best, "seed": 0}, 0.25)
    searched = reproduction.markdown("4", "small", tmp_path, searched=True)
    assert "| LA | 25.00 | 1 |" in searched
    assert "searched on held-out training data" in searched


def test_runs_fail_alone_and_finished_ones_are_not_repeated(monkeypatch, tmp_path, capsys):
    import reproduce
    import reproduction

    real = reproduction.config_of

    def config_of(table, column, row, scale, seed=0, data_folder=None):
        config = real(table, column, row, scale, seed, data_folder)
        config["training"]["epochs"] = 1
        if row["name"] == "focal":
            config["network"]["depth"] = 9  # there is no such ResNet
        return config

    monkeypatch.setattr(reproduction, "config_of", config_of)
    arguments = ["--table", "4", "--rows", "focal;LA", "--columns", "imbalance 100"]
    arguments += ["--scale", "smoke", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
    with pytest.raises(SystemExit, match="1"):
        reproduce.main()
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
    arguments[3] = "LA"
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
    reproduce.main()
    assert result.stat().st_mtime_ns == before
    assert "epoch" not in capsys.readouterr().out.split("**Table")[0]


def test_runs_at_a_time_share_the_processors(monkeypatch):
    import reproduce

    monkeypatch.setattr(reproduce.os, "cpu_count", lambda: 8)
    assert reproduce.shared_environment(jobs=1) == {}
    for jobs, threads in ((3, "2"), (20, "1")):
        shared = reproduce.shared_environment(jobs)
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "NPROC"):
            assert shared[name] == threads


def test_the_halves_of_logit_adjustment_are_each_half_of_it():
    from methods import METHODS, Training

    training = Training(class_counts=(2, 50, 1, 40, 5), epochs=1, steps=1)
    labels = np.arange(10) % 5
    logits = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")

    def perturbed(method):
        return np.asarray(METHODS[method].loss(training).perturb(labels, logits))

    is_head = np.isin(labels, [1, 3])
    whole = perturbed("logit adjustment")
    np.testing.assert_allclose(
        perturbed("LA of the head"), np.where(is_head[:, None], whole, logits), rtol=1e-6
    )
    np.testing.assert_allclose(
        perturbed("LA of the tail"), np.where(is_head[:, None], logits, whole), rtol=1e-6
    )
