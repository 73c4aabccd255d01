"""Bad input raises an error that names the argument, what was received, and what to do."""

import numpy as np
import pytest

import keras_lpl
from keras_lpl import LogitAdjustmentLoss, LPLLoss, PerturbedCrossentropy

COUNTS = [50, 30, 5]
LOGITS = np.zeros((4, 3), "float32")

ARGUMENTS = {
    "zero count": (lambda: LPLLoss([5, 0, 3]), r"`class_counts`.*Received: class_counts\[1\]=0"),
    "negative count": (lambda: LogitAdjustmentLoss([5, -2]), r"Received: class_counts\[1\]=-2"),
    "nan count": (lambda: LogitAdjustmentLoss([np.nan, 2]), r"class_counts\[0\]=nan"),
    "one count": (lambda: LPLLoss([5]), r"at least two classes.*Received: class_counts=\[5\]"),
    "counts of rank 2": (lambda: LPLLoss([[5, 4, 3]]), "flat sequence.*Received"),
    "counts of words": (lambda: LPLLoss(["a", "b"]), r"`class_counts`.*Received: .*\['a', 'b'\]"),
    "split": (lambda: LPLLoss(split="size"), r"`split` must be one of.*Received: split='size'"),
    "no counts": (lambda: LPLLoss(split="frequency"), "pass `class_counts`.*Received"),
    "LA without counts": (lambda: LPLLoss(logit_adjustment=1.0), "pass `class_counts`.*Received"),
    "epsilon": (lambda: LPLLoss(epsilon=-0.1), "`epsilon`.*at least 0. Received: epsilon=-0.1"),
    "delta_epsilon": (lambda: LPLLoss(delta_epsilon="x"), "`delta_epsilon`.*Received"),
    "step of zero": (lambda: LPLLoss(step_size=0), "`step_size`.*greater than 0. Received"),
    "step beyond bounds": (
        lambda: LPLLoss(epsilon=0.1, delta_epsilon=0.1, step_size=0.3),
        r"no class would ever be moved.*smaller step_size.*Received: step_size=0.3",
    ),
    "infinite": (lambda: LPLLoss(COUNTS, delta_epsilon=np.inf), "finite.*Received"),
    "true": (lambda: LPLLoss(step_size=True), "`step_size`.*Received: step_size=True"),
    "threshold word": (lambda: LPLLoss(threshold="median"), "`threshold` must be one of.*median"),
    "mean of frequency": (
        lambda: LPLLoss(COUNTS, threshold="mean", bound="ratio"),
        "share of the classes",
    ),
    "threshold beyond C": (
        lambda: LPLLoss(COUNTS, threshold=4, bound="ratio"),
        "`threshold`.*at most 3.*=4",
    ),
    "threshold 1.5": (
        lambda: LPLLoss(COUNTS, threshold=1.5, bound="ratio"),
        "whole number.*Received",
    ),
    "no threshold": (lambda: LPLLoss(COUNTS, threshold=0.4), "pass `bound='ratio'`.*threshold=0.4"),
    "negative threshold": (lambda: LPLLoss(threshold=-1), "`threshold`.*Received"),
    "head_scale": (lambda: LPLLoss(head_scale=0.5), "only `split='frequency'` has a head"),
    "tau": (lambda: LogitAdjustmentLoss(COUNTS, tau=-1), "`tau`.*Received: tau=-1"),
    "half precision": (lambda: LPLLoss(dtype="bfloat16"), "`dtype` must be one of.*bfloat16"),
    "not a perturbation": (
        lambda: PerturbedCrossentropy(["LPL"]),
        "list of `keras_lpl.perturbations.Perturbation`. Received: 'LPL'",
    ),
    "momentum": (
        lambda: keras_lpl.layers.RunningClassConfidence(3, momentum=2),
        "`momentum`.*Received: momentum=2",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    make, message = ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        make()


LABELS = {
    "too large": ([0, 1, 2, 3], r"must lie in \[0, 3\).*Received: y_true\[3\]=3.*Widen"),
    "negative": ([0, -1, 2, 1], r"Received: y_true\[1\]=-1.*sample weight 0"),
    "not whole": ([0.0, 1.5, 2, 1], r"whole class indices. Received: y_true\[1\]=1.5"),
    "nan": ([0.0, np.nan, 2, 1], r"Received: y_true\[1\]=nan"),
    "wrong shape": (np.zeros((4, 2)), r"shape \(4,\).*Received: labels of shape \(4, 2\)"),
    "multi-hot": (np.full((4, 3), 0.9), "sum to 1.*Received: .*sum 2.7.*`multi_label=True`"),
    "negative share": (np.tile([-0.5, 0.5, 1.0], (4, 1)), "non-negative.*minimum -0.5"),
}


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("loss", [LPLLoss(), PerturbedCrossentropy([])], ids=["lpl", "plain"])
def test_labels(case, loss):
    labels, message = LABELS[case]
    with pytest.raises(ValueError, match=message):
        loss(np.asarray(labels), LOGITS)


def test_logits_of_another_rank():
    with pytest.raises(ValueError, match=r"must be logits of shape.*Received: an output of shape"):
        LPLLoss()(np.zeros(4, "int32"), np.zeros(4, "float32"))


@pytest.mark.parametrize("loss", [LPLLoss([5, 4]), LogitAdjustmentLoss([5, 4])])
def test_counts_of_another_number_of_classes(loss):
    with pytest.raises(
        ValueError, match=r"one entry per class. Received: 2 counts of shape \(2,\) for logits of 3"
    ):
        loss(np.zeros(4, "int32"), LOGITS)


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
