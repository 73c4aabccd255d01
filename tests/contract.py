"""The contract every loss keeps, on every backend: one function per law.

The laws that need no oracle are public, in `keras_lpl.testing`; here are those that hold a loss
against its float64 loop. `LossCase` says how a loss is made and what it must compute.
`tests/losses/test_contract.py` runs all laws over all losses, and breaks each of them on purpose to
show that it can fail.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_lpl import testing
from keras_lpl.testing import CLASSES, COUNTS, assert_close, batch, per_sample
from tests import reference
from tests.gradients import value_and_gradient


@dataclasses.dataclass(frozen=True)
class LossCase:
    """A loss under contract.

    Attributes:
        name: Shown in the test's name.
        make: `make(class_counts, **keywords)` returns the loss.
        oracle: `oracle(labels, logits, class_counts, sample_weight, constant_at)` returns the
            per-sample losses in float64. What the loss holds constant for back-propagation is
            computed at the logits `constant_at` (None: at `logits`).
        reduces: `reduces(class_counts)` returns the loss with the parameters at which it is plain
            cross-entropy, or what `reduces_to` says.
        reduces_to: `reduces_to(labels, logits)`, float64 losses per sample.
        learns_from_errors: Whether a sample that is wrong with certainty has a gradient. Losses
            made for noisy labels give such samples up on purpose.
        labels_are_apart: Whether the loss of a label is the same whatever the sample's other labels
            are.
        is_variant: True for other settings of a loss that another case holds to all laws: only the
            laws of `VARIANT_LAWS` are checked.
    """

    name: str
    make: Callable
    oracle: Callable
    reduces: Callable
    reduces_to: Callable = reference.softmax_crossentropy
    learns_from_errors: bool = True
    labels_are_apart: bool = True
    is_variant: bool = False

    def __str__(self):
        return self.name


# --- Laws with an oracle --------------------------------------------------------------------------


def check_oracle(case):
    """Agrees with a naive float64 loop: index, column and one-hot labels, weighted or not."""
    loss = case.make(COUNTS, reduction=None)
    for seed in range(3):
        labels, logits = batch(seed)
        weight = np.random.default_rng(seed).uniform(0.2, 2, len(labels)).astype("float32")
        plain = case.oracle(labels, logits, COUNTS)
        assert_close(per_sample(loss, labels, logits), plain)
        assert_close(per_sample(loss, labels[:, None], logits), plain)
        one_hot = np.eye(CLASSES, dtype="float32")[labels]
        assert_close(per_sample(loss, one_hot, logits), plain)
        weighted = case.oracle(labels, logits, COUNTS, sample_weight=weight)
        assert_close(per_sample(loss, labels, logits, weight), weighted)


def check_soft_labels(case):
    """Agrees with the oracle on mixed and smoothed labels."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(3)
    one_hot = np.eye(CLASSES)[labels]
    mixed = (0.7 * one_hot + 0.3 * one_hot[::-1]).astype("float32")
    smoothed = (0.9 * one_hot + 0.1 / CLASSES).astype("float32")
    for soft in (mixed, smoothed):
        assert_close(per_sample(loss, soft, logits), case.oracle(soft, logits, COUNTS))


def check_reduction_law(case):
    """At the neutral parameters it is plain cross-entropy, or the loss it generalises."""
    loss = case.reduces(COUNTS, reduction=None)
    labels, logits = batch(4)
    assert_close(per_sample(loss, labels, logits), case.reduces_to(labels, logits))


def check_gradient(case):
    """Its gradient is that of the oracle by finite differences, constants held."""
    loss = case.make(COUNTS)
    labels, logits = batch(7, size=8)
    _, gradient = value_and_gradient(lambda x: loss(labels, x), logits)

    def oracle(x):
        return case.oracle(labels, x, COUNTS, constant_at=logits).mean()

    assert_close(gradient, reference.finite_difference_gradient(oracle, logits), rtol=1e-4)


def check_absent_classes(case):
    """A batch of a few classes only."""
    loss = case.make(COUNTS, reduction=None)
    _, logits = batch(8)
    for labels in ([2, 2, 2, 2, 2, 2], [0, 4, 4, 0, 4, 4]):
        labels = np.resize(labels, len(logits))
        assert_close(per_sample(loss, labels, logits), case.oracle(labels, logits, COUNTS))


def check_low_precision_oracle(case):
    """Half-precision logits give the losses of the rounded logits, with 300 classes."""
    classes = 300
    counts = np.random.default_rng(9).integers(1, 400, classes)
    loss = case.make(counts, reduction=None)
    labels = np.array([255, 256, 257, 258, 299, 0])
    logits = np.random.default_rng(9).normal(size=(len(labels), classes)).astype("float32")
    low = ops.cast(logits, "bfloat16")
    seen = ops.convert_to_numpy(ops.cast(low, "float32"))
    assert_close(ops.convert_to_numpy(loss(labels, low)), case.oracle(labels, seen, counts))


def _check_law(check, case):
    if check is testing.check_extreme_logits and not case.learns_from_errors:
        return
    if check is testing.check_several_labels and not case.labels_are_apart:
        return
    check(case.make)


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
} | {name: functools.partial(_check_law, check) for name, check in testing.LAWS.items()}

VARIANT_LAWS = (
    "oracle",
    "soft_labels",
    "reduction_law",
    "gradient",
    "absent_classes",
    "low_precision_oracle",
    "class_relabelling",
    "one_logit",
    "extreme_logits",
    "serialization",
)
"""Laws that depend on the settings of a loss, rather than on how it reads its batch."""


def laws_of(case):
    """Names of the laws that a case is held to."""
    return VARIANT_LAWS if case.is_variant else tuple(CHECKS)
