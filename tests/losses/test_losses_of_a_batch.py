"""Losses that look at the whole batch, beyond the contract."""

import numpy as np
from keras import ops

import keras_lpl
from tests import reference
from tests.contract import assert_close, batch, per_sample
from tests.gradients import value_and_gradient

# --- LADE -----------------------------------------------------------------------------------


def test_lade_is_a_regulariser_of_the_batch():
    """Added to each sample, it does not change with what is in rows of weight 0, however large."""
    counts = (40, 500, 7, 90, 12)
    labels, logits = batch(2)
    weight = np.where(np.arange(len(labels)) < 12, 1, 0).astype("float32")
    logits[12:] *= np.float32(1e4)
    both = [keras_lpl.LADELoss(counts, strength, reduction=None) for strength in (0.0, 0.5)]
    plain, with_it = (
        np.asarray(ops.convert_to_numpy(loss(labels, logits, weight))) for loss in both
    )
    added = (with_it - plain)[:12]
    assert_close(added, np.full(12, added[0]))
    alone = [float(loss(labels[:12], logits[:12])[0]) for loss in both]
    assert_close(added[0], alone[1] - alone[0], rtol=1e-4)


def test_lade_of_no_rows_is_zero():
    loss = keras_lpl.LADELoss((40, 500, 7), strength=100.0)
    assert float(loss(np.array([0, 1]), np.zeros((2, 3), "float32"), np.zeros(2))) == 0


def test_lade_of_huge_logits_is_finite():
    """The square of its normaliser would not be; nor does it hide what lies far below."""
    loss = keras_lpl.LADELoss((40, 500, 7, 90, 12), reduction=None)
    labels, logits = batch(2)
    assert np.all(np.isfinite(per_sample(loss, labels, np.float32(1e28) * logits)))
    weight = np.where(np.arange(len(labels)) < 12, 1, 0).astype("float32")
    deep = logits - np.float32(1e20)
    weighted = ops.convert_to_numpy(loss(labels, deep, weight))[:12]
    assert_close(weighted, per_sample(loss, labels[:12], deep[:12]))


# --- Average top-k --------------------------------------------------------------------------


def test_top_k_learns_from_the_largest_losses_alone():
    loss = keras_lpl.AverageTopKLoss(share=0.3, reduction="sum")
    labels, logits = batch(3, size=10)
    losses = reference.softmax_crossentropy(labels, logits)
    value, gradient = value_and_gradient(lambda x: loss(labels, x), logits)
    largest = np.argsort(-losses)[:3]
    assert_close(value / 10, losses[largest].mean())
    # 0.3 * 10 may be a rounding above 3, and the fourth has a part of 1e-7 then.
    assert set(np.flatnonzero(np.abs(gradient).sum(axis=1) > 1e-5)) == set(largest)


def test_top_k_of_several_labels_looks_at_each_by_itself():
    """The errors of one label, all larger than those of the other, leave the other its share."""
    logits = np.stack([np.arange(4.0), 100 + np.arange(4.0)], axis=-1).astype("float32")
    loss = keras_lpl.AverageTopKLoss(0.5, multi_label=True, reduction="sum")
    _, gradient = value_and_gradient(lambda x: loss(np.zeros((4, 2), "int32"), x), logits)
    np.testing.assert_array_equal(np.abs(gradient) > 0, [[False] * 2] * 2 + [[True] * 2] * 2)
