"""Recipes, the plan made of them, and the tables made of the results."""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from methods import METHODS, Training
from reporting import write_json
from reproduction import configs, plan, recipes, tables

import keras_lpl

RESULTS = sorted((Path(__file__).parents[2] / "docs/results/reproduction").glob("*.json"))


def everything():
    """Every table, column, row and scale."""
    for name in recipes.tables():
        table = recipes.read_table(name)
        for scale in recipes.SCALES:
            for column in table["columns"]:
                for row in table["rows"]:
                    yield table, column, row, scale


def cell(table, row, scale="small", **arguments):
    """The row of a table, and its description in the first column."""
    table = recipes.read_table(table)
    (row,) = recipes.selected(table["rows"], row, "row")
    return row, configs.config_of(table, table["columns"][0], row, scale, **arguments)


def options(out, **given):
    """The options of a command."""
    unset = dict.fromkeys(("rows", "columns", "seeds", "precision", "data"))
    return argparse.Namespace(**{**unset, "out": out, "search": False, **given})


def fake(out, config, error):
    """Writes the result of a run that was not made."""
    shots = {f"{shot}_shot_accuracy": 1 - error for shot in ("many", "medium")}
    result = {
        "method": config["method"], "backend": "jax", "config": config,
        "balanced_error": error, **shots, "few_shot_accuracy": None,
    }  # fmt: skip
    write_json(configs.result_file(config, out), result)


def test_every_recipe_is_whole():
    names = {}
    for table, column, row, scale in everything():
        config = configs.config_of(table, column, row, scale)
        assert config["method"] in METHODS
        arguments = dict(config["network"])
        make = getattr(keras_lpl.networks, arguments.pop("name"))
        inspect.signature(make).bind(**arguments)
        assert set(row) <= {"name", "method", "paper", "network", "grid", *configs.METHOD_ARGUMENTS}
        assert set(row.get("paper", {})) <= {column["name"] for column in table["columns"]}
        training = config["training"]
        assert len(training["milestones"]) == len(training["factors"])
        for point in plan.grid(config, row):
            assert point["data"]["held_out"] == plan.HELD_OUT
            assert set(point) - {"data", "seed"} >= set(config) - {"data", "seed"}
        if scale == "full":
            # One file for each of them, but where two tables have the very same run.
            described = names.setdefault(configs.run_name(config), set())
            described.add(json.dumps(config, sort_keys=True))
    assert all(len(described) == 1 for described in names.values())


def test_the_recipe_of_the_long_tail():
    pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")
    from reproduction.training import learning_rate

    _, config = cell("4", "la+lpl", "full")
    training = config["training"]
    rates = [learning_rate(epoch, training) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    np.testing.assert_allclose(rates, [1 / 60, 5 / 60, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    given = (training["epochs"], training["batch_size"], training["weight_decay"])
    assert given == (200, 128, 2e-4)


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_committed_results_are_found(file):
    config = json.loads(file.read_text())["config"]
    assert configs.result_file(config, file.parent) == file


def test_a_data_file_may_lie_anywhere(tmp_path):
    (tmp_path / "cifar10.npz").touch()
    _, config = cell("4", "LA")
    _, local = cell("4", "LA", data_folder=tmp_path)
    assert local["data"]["name"] == str(tmp_path / "cifar10.npz")
    assert configs.run_name(local) == configs.run_name(config)


def test_rows_are_found_by_their_names():
    rows = recipes.read_table("3")["rows"]
    found = recipes.selected(rows, "LPL,LA+LPL", "row")
    assert [row["name"] for row in found] == ["LPL, varied bound", "LA + LPL"]
    for name in ("LPL, varied bound", "LPL, fixed bound", "LA"):  # as they are listed
        assert [row["name"] for row in recipes.selected(rows, name, "row")] == [name]
    found = recipes.selected(rows, "LPL, varied bound; LA", "row")
    assert [row["name"] for row in found] == ["LA", "LPL, varied bound"]
    assert recipes.selected(rows, None, "row") == rows
    for name in ("nonsense", "", " ; LA"):  # an empty name is no wish for all of them, or for none
        with pytest.raises(SystemExit, match=r"no row '(nonsense)?'\. There are: cross-entropy; "):
            recipes.selected(rows, name, "row")
    with pytest.raises(SystemExit, match=r"no table '99'\. There are: 1, 2, 3, 4, 6, map, net"):
        recipes.read_table("99")


def test_a_search_sees_no_test_image():
    pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")
    from reproduction import training

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


def test_the_search_takes_what_is_best_on_held_out_data(tmp_path):
    row, config = cell("4", "LA", seed=1)
    points = plan.grid(config, row)
    assert [point["tau"] for point in points] == [0.5, 1.0, 1.5, 2.0, 2.5]
    for point, error in zip(points[:-1], (0.4, 0.3, 0.2, 0.5), strict=True):
        fake(tmp_path, point, error)
    assert plan.with_best(config, row, tmp_path) is None  # one is missing
    fake(tmp_path, points[-1], 0.6)
    best = plan.with_best(config, row, tmp_path)
    assert best == {**config, "tau": 1.5}
    fake(tmp_path, {**best, "seed": 0}, 0.25)
    searched = tables.markdown("4", "small", tmp_path, searched=True)
    assert "| LA | 25.00 | 1 |" in searched
    assert "searched on held-out training data" in searched


def test_the_plan_is_what_is_missing(tmp_path):
    given = options(tmp_path, table="4", columns="imbalance 100", scale="small", rows="focal;LA")
    given.seeds = 2
    focal, la, *others = plan.missing(given)
    assert [run.label for run in (focal, la, *others)] == [
        "focal, imbalance 100, seed 0",
        "LA, imbalance 100, seed 0",
        "focal, imbalance 100, seed 1",
        "LA, imbalance 100, seed 1",
    ]
    fake(tmp_path, focal.config, 0.2)
    assert plan.missing(given, failed=[la.name]) == others
    # A search comes first, and with its results the run with the best of its parameters.
    given.search, given.rows, given.seeds = True, "LA", 1
    points = plan.missing(given)
    assert [run.label for run in points] == 5 * ["search LA, imbalance 100"]
    for run in points:
        fake(tmp_path, run.config, 0.3 if run.config["tau"] == 2.0 else 0.4)
    (final,) = plan.missing(given)
    assert (final.label, final.config["tau"]) == ("LA, imbalance 100, seed 0", 2.0)


def test_runs_that_are_the_same_are_made_once(tmp_path):
    given = options(tmp_path, table="4", scale="smoke", rows="LA")
    assert len(recipes.read_table("4")["columns"]) == 2
    assert len(plan.missing(given)) == 1  # the digits stand in for the data of both


def test_the_table_beside_the_papers_numbers(tmp_path):
    for seed, error in enumerate((0.20, 0.22, 0.27)):
        fake(tmp_path, cell("4", "LA", seed=seed)[1], error)
    text = tables.markdown("4", "small", tmp_path)
    assert "| LA | 23.00 ± 3.61 | 3 | 77.00 ± 3.61 | 77.00 ± 3.61 | - | 22.33 |" in text
    assert "Scale *small*: cifar10, resnet 20, 30 epochs, mixed_bfloat16, jax" in text
    assert "imbalance 10." not in text  # nothing was run for it
    with pytest.raises(SystemExit, match="no results of table 4 at scale full"):
        tables.markdown("4", "full", tmp_path)


def test_the_table_of_another_precision(tmp_path):
    fake(tmp_path, cell("4", "LA", precision="float32")[1], 0.25)
    with pytest.raises(SystemExit, match="no results"):
        tables.markdown("4", "small", tmp_path)
    text = tables.markdown("4", "small", tmp_path, precision="float32")
    assert "| LA | 25.00 | 1 |" in text
    assert "30 epochs, float32, jax" in text


def test_the_halves_of_logit_adjustment_are_each_half_of_it():
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
