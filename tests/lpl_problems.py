"""Batches that LPL is tried on, the functions of it that are tested, and how they are compared.

Inputs are float32, and the oracle gets the same float32 numbers, so that only the library's own
rounding shows. Few shapes are used, so that each is compiled once.
"""

import dataclasses
import typing

import numpy as np
import pytest
from keras import ops

from keras_lpl import functional
from tests import gradients

CLASS_COUNTS = np.array([30, 500, 4, 120, 9])  # not sorted, on purpose
DIRECTION = np.array([1, -1, 1, -1, 1], "float32")
STEPS = np.array([5, 4, 3, 6, 2], "int32")

HARD = [
    "plain",
    "absent classes",
    "duplicates",
    "two classes",
    "one sample",
    "more classes than samples",
    "weights",
]
SOFT = ["mixup", "smoothed", "weighted mixup", "few smoothed", "few weighted mixup"]

step_kinds = pytest.mark.parametrize("normalize_gradient", [True, False], ids=["unit", "printed"])


@dataclasses.dataclass
class Problem:
    """One batch, and the training counts of its classes."""

    labels: np.ndarray
    logits: np.ndarray
    class_counts: np.ndarray
    sample_weight: np.ndarray | None = None


def make_problem(name):
    rng = np.random.default_rng(0)
    num_samples, num_classes, counts, weight = 12, 5, CLASS_COUNTS, None
    if name == "more classes than samples":
        num_samples, num_classes = 6, 300
        counts = rng.permutation(300) + 1
    elif name == "two classes":
        num_classes, counts = 2, np.array([3, 40])
    elif name == "one sample":
        num_samples = 1
    elif name.startswith("few"):
        num_samples = 4
    labels = rng.integers(0, num_classes, num_samples)
    if name == "absent classes":
        labels = rng.choice([1, 4], num_samples)
    elif name == "more classes than samples":
        labels[1] = labels[0]  # else no class has two samples
    logits = (2 * rng.standard_normal((num_samples, num_classes))).astype("float32")
    if name == "duplicates":
        labels[6:], logits[6:] = labels[:6], logits[:6]
    if "weight" in name:
        weight = rng.uniform(0.1, 3, num_samples).astype("float32")
        weight[::4] = 0
    if name == "weights":
        weight[labels == labels[1]] = 0  # a class that is in the batch, but without weight
    if "mixup" in name:
        share = rng.uniform(size=(num_samples, 1)).astype("float32")
        labels = share * one_hot(labels) + (1 - share) * one_hot(labels[::-1])
    elif "smoothed" in name:
        labels = np.float32(0.9) * one_hot(labels) + np.float32(0.1 / num_classes)
    return Problem(labels, logits, counts, weight)


def one_hot(labels, num_classes=5):
    return np.eye(num_classes, dtype="float32")[labels]


def numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


class Outcome(typing.NamedTuple):
    """What the library makes of one batch."""

    perturbed: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    weight_seen: np.ndarray
    mean_loss: np.ndarray | None = None
    gradient: np.ndarray | None = None


def mean_loss(logits, labels, direction, num_steps, sample_weight, normalize_gradient):
    """Mean of weight times loss over the batch, for steps of 0.1, and all on the way to it."""
    options = {"normalize_gradient": normalize_gradient, "sample_weight": sample_weight}
    perturbed = functional.perturb_logits(labels, logits, direction, num_steps, 0.1, **options)
    loss = functional.softmax_crossentropy(labels, perturbed)
    q, seen = functional.class_confidence(labels, logits, sample_weight)
    weight = 1.0 if sample_weight is None else ops.convert_to_tensor(sample_weight)
    return ops.mean(loss * weight), Outcome(perturbed, loss, q, seen)


def run(labels, logits, direction, num_steps, sample_weight=None, normalize_gradient=True):
    """Everything at once, so that each backend compiles few functions."""
    (value, outcome), gradient = gradients.value_and_gradient(
        mean_loss,
        logits,
        labels,
        np.asarray(direction, "float32"),
        np.asarray(num_steps, "int32"),
        sample_weight,
        has_aux=True,
        normalize_gradient=normalize_gradient,
    )
    return outcome._replace(mean_loss=value, gradient=gradient)


def perturb(*args, **kwargs):
    """The perturbed logits alone."""
    return run(*args, **kwargs).perturbed


def direction_and_steps(functions, problem, logits, split):
    """The first three steps of LPL by `functions`: the library's, or the oracle's namesakes."""
    if split == "confidence":
        q, seen = functions.class_confidence(
            problem.labels, logits, sample_weight=problem.sample_weight
        )
        direction = functions.split_by_confidence(q, "mean", weight=seen)
        bound = functions.bound_by_confidence(q, "mean", 0.25, 1.0, weight=seen)
    else:
        counts = problem.class_counts
        direction = functions.split_by_frequency(counts, 0.4)
        bound = functions.bound_by_frequency(counts, 0.4, 0.25, 1.0, head_scale=0.6)
    return direction, functions.num_steps(bound, 0.1)


def assert_close(actual, expected, rtol=1e-5):
    """The largest error is at most `rtol` times the largest magnitude expected. NaN is an error."""
    actual, expected = numpy(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.max(np.abs(expected))
    error = np.max(np.abs(actual.astype("float64") - expected))
    assert error <= rtol * scale, f"error {error:.3g} is over {rtol:g} of {scale:.3g}"
