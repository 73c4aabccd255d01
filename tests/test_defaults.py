"""Arguments left out, and configs of other versions, mean what the documentation says."""

import numpy as np
import pytest

import keras_lpl
from keras_lpl import LPLLoss

COUNTS = [50, 30, 5]


def test_defaults_are_those_of_the_table():
    """The table in `LPLLoss`'s docstring."""
    ratio = {"class_counts": COUNTS, "bound": "ratio"}
    rows = [
        ({"class_counts": COUNTS}, (None, 0.0, 1.0, "one")),
        (ratio, (0.4, 0.0, 2.5, 0.1)),
        (ratio | {"delta_epsilon": 0}, (0.4, 1.5, 0.0, 0.1)),
        ({}, ("mean", 0.2, 0.2, 0.02)),
        ({"delta_epsilon": 0}, ("mean", 0.2, 0.0, 0.02)),
    ]
    documented = [
        [cell.strip().strip('"') for cell in line.strip().strip("|").split("|")[2:]]
        for line in LPLLoss.__doc__.splitlines()
        if line.strip().startswith(("| default", "| mean,", "| frequency,"))
    ]
    assert len(documented) == len(rows)
    for (arguments, expected), cells in zip(rows, documented, strict=True):
        config = LPLLoss(**arguments).get_config()
        step = "one" if config["num_steps"] == 1 else config["step_size"]
        names = ("threshold", "epsilon", "delta_epsilon")
        assert (*(config[name] for name in names), step) == expected
        for value, cell in zip(expected, cells, strict=True):
            assert cell == {None: "none"}.get(value, value) or float(cell.split(";")[0]) == value
    on_la = LPLLoss(COUNTS, bound="ratio", logit_adjustment=0.5).get_config()
    assert on_la["delta_epsilon"] == 1.5


def test_default_with_counts_is_adjusted_and_follows_the_confidence():
    config = LPLLoss(COUNTS).get_config()
    assert (config["logit_adjustment"], config["bound"]) == (1.0, "logarithmic")
    assert (config["confidence_power"], config["num_steps"]) == (16.0, 1)
    for paper in (LPLLoss(COUNTS, bound="ratio"), LPLLoss(COUNTS, split="confidence"), LPLLoss()):
        config = paper.get_config()
        assert (config["logit_adjustment"], config["bound"]) == (0.0, "ratio")
        assert config["confidence_power"] == 0


@pytest.mark.parametrize("make", [LPLLoss, keras_lpl.perturbations.LPL])
def test_configs_of_version_0_1_mean_the_ratio_bound(make):
    config = make(COUNTS, bound="ratio", threshold=0.4, delta_epsilon=2.5).get_config()
    old = {k: config[k] for k in config if k not in ("bound", "confidence_power", "num_steps")}
    assert make.from_config(old).get_config() == config


def test_bounds_by_confidence_are_the_same_on_adjusted_logits():
    adjusted = LPLLoss(COUNTS, split="confidence", logit_adjustment=1.0).get_config()
    assert adjusted["delta_epsilon"] == LPLLoss().get_config()["delta_epsilon"]


def test_counts_given_as_arrays_are_saved_as_numbers():
    config = LPLLoss(np.array(COUNTS, "int64")).get_config()
    assert config["class_counts"] == COUNTS
    assert all(type(n) is int for n in config["class_counts"])
