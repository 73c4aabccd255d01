"""Losses made for several labels per sample, on several labels."""

import numpy as np
import pytest

import keras_lpl
from tests import reference_losses
from tests.contract import assert_close, per_sample

COUNTS = np.array([[50, 50], [90, 10], [97, 3]])
REBALANCED = {"alpha": 0.2, "beta": 4.0, "mu": 0.3, "negative_scale": 3.0, "bias_scale": 0.4}


def batch(seed=0, size=12):
    """Labels of which the first sample has none and the second all; logits."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=(size, 3)) < [0.6, 0.4, 0.3]).astype("int32")
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    return labels, (2 * rng.normal(size=(size, 3))).astype("float32")


def test_asymmetric_of_several_labels():
    labels, logits = batch()
    settings = {"gamma_negative": 4.0, "gamma_positive": 1.0, "margin": 0.05}
    loss = keras_lpl.AsymmetricLoss(multi_label=True, reduction=None, **settings)
    expected = reference_losses.asymmetric(labels, logits, **settings).mean(axis=1)
    assert_close(per_sample(loss, labels, logits), expected)
    assert_close(
        per_sample(loss, labels.reshape(3, 4, 3), logits.reshape(3, 4, 3)).ravel(), expected
    )


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_distribution_balanced_of_labels_that_come_together(gamma):
    labels, logits = batch()
    settings = REBALANCED | {"gamma": gamma}
    loss = keras_lpl.DistributionBalancedLoss(COUNTS, multi_label=True, reduction=None, **settings)

    def oracle(labels):
        return reference_losses.distribution_balanced(labels, logits, COUNTS[:, 1], 100, **settings)

    expected = oracle(labels).mean(axis=1)
    assert_close(per_sample(loss, labels, logits), expected)
    assert_close(
        per_sample(loss, labels.reshape(3, 4, 3), logits.reshape(3, 4, 3)).ravel(), expected
    )
    soft = 0.8 * labels + 0.1
    assert_close(per_sample(loss, soft.astype("float32"), logits), oracle(soft).mean(axis=1))


def test_a_label_that_is_ignored_is_no_companion():
    labels, logits = batch()
    loss = keras_lpl.DistributionBalancedLoss(
        COUNTS, multi_label=True, ignore_class=-1, reduction=None, **REBALANCED
    )
    unknown = labels.copy()
    unknown[1:4, 2] = -1
    as_negative = np.where(unknown < 0, 0, labels)
    by_label = reference_losses.distribution_balanced(
        as_negative, logits, COUNTS[:, 1], 100, **REBALANCED
    )
    expected = np.where(unknown < 0, 0, by_label).sum(axis=1) / (unknown >= 0).sum(axis=1)
    assert_close(per_sample(loss, unknown, logits), expected)


ARGUMENTS = {
    "gamma_negative": (
        lambda: keras_lpl.AsymmetricLoss(gamma_negative=-1),
        "`gamma_negative`.*at least 0. Received: gamma_negative=-1",
    ),
    "gamma_positive": (
        lambda: keras_lpl.AsymmetricLoss(gamma_positive=-1),
        "`gamma_positive`.*at least 0. Received: gamma_positive=-1",
    ),
    "margin": (
        lambda: keras_lpl.AsymmetricLoss(margin=1),
        "`margin` must be below 1.*takes 0.05. Received: margin=1",
    ),
    "negative_scale": (
        lambda: keras_lpl.DistributionBalancedLoss(COUNTS, negative_scale=0),
        "`negative_scale`.*greater than 0. Received: negative_scale=0",
    ),
    "counts": (
        lambda: keras_lpl.DistributionBalancedLoss([[9, 0], [5, 5]]),
        r"`class_counts` must be positive.*Received: class_counts\[0\]\[1\]=0",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    make, message = ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_distribution_balanced_of_huge_counts_is_finite():
    """The counts of all other classes are lost beside the first one, and are not 0."""
    loss = keras_lpl.DistributionBalancedLoss([10**17, 1, 1])
    assert np.isfinite(float(loss(np.eye(3, dtype="float32"), np.zeros((3, 3), "float32"))))
