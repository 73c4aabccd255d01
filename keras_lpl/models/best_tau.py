"""The strength of post-hoc logit adjustment that is best on held-out data."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.masks import mask_of
from keras_lpl.core.typing import Counts
from keras_lpl.methods.logit_adjustment import PostHocLogitAdjustment
from keras_lpl.metrics import BalancedAccuracy

TAUS = tuple(round(0.1 * step, 1) for step in range(31))
"""Strengths that are tried."""

_MASKED_AT_ONCE = 32


def best_tau(model: keras.Model, class_counts: Counts, data: Any) -> float:
    """The one of `TAUS` with the largest balanced accuracy; of equals the one closest to 1.

    Args:
        model: A model of one output that ends in logits.
        class_counts: Training samples per class.
        data: Held-out `(x, y)` or `(x, y, sample_weight)`, or an iterable of such batches.

    Raises:
        ValueError: for data of another form, without a sample that counts, or with predictions
            that are not finite.
    """
    if data is None:
        raise ValueError(
            '`tau="auto"` needs held-out data: pass `data=(x, y)`, not the training data, on which '
            "the model is too sure of itself. Received: data=None"
        )
    multi_label = isinstance(checks.class_counts(class_counts)[0], tuple)
    batches = list(_predictions(model, data))
    if not batches:
        raise ValueError("`data` gives no batches, so there is nothing to choose by")

    def balanced_accuracy(tau):
        adjust = PostHocLogitAdjustment(class_counts, tau)
        metric = BalancedAccuracy(multi_label=multi_label)
        for logits, labels, weight in batches:
            metric.update_state(labels, adjust(logits), weight)
        return float(metric.result())

    found = {tau: balanced_accuracy(tau) for tau in TAUS}
    if not all(np.isfinite(value) for value in found.values()):
        raise ValueError(
            "The model's predictions for `data` are not finite, or a label is no class. Look at "
            "`model.predict(x)` for NaN"
        )
    return max(TAUS, key=lambda tau: (found[tau], -abs(tau - 1)))


def _predictions(model: keras.Model, data: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Logits, labels and weights, batch by batch; the weights have Keras's mask in them."""
    is_whole = isinstance(data, tuple)
    if not is_whole and not isinstance(data, Iterable):
        raise ValueError(
            "`data` must be `(x, y)` or give such batches. "
            f"Received: an object of type {type(data).__name__}"
        )
    for batch in [data] if is_whole else data:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise ValueError(
                "`data` must be a tuple `(x, y)` or `(x, y, sample_weight)`, or give such batches. "
                f"Received: {type(data).__name__} with {_description(batch)}"
            )
        x, labels, *weight = batch
        if 0 in _sizes(x):
            raise ValueError("`data` has a batch without samples. Received: an empty `x`")
        logits = model.predict(x, verbose=0) if is_whole else model.predict_on_batch(x)
        yield logits, labels, _times_mask(weight[0] if weight else None, _mask(model, x))


def _description(batch):
    if isinstance(batch, (tuple, list)):
        return f"{len(batch)} parts"
    return f"an entry of type {type(batch).__name__}"


def _sizes(x):
    return [array.shape[0] for array in keras.tree.flatten(x)]


def _mask(model, x):
    """Mask of the output, which `predict` loses; None if there is none."""

    def of_rows(rows):
        return mask_of(model(keras.tree.map_structure(lambda array: array[rows], x)))

    if of_rows(slice(1)) is None:
        return None
    starts = range(0, _sizes(x)[0], _MASKED_AT_ONCE)
    parts = [of_rows(slice(start, start + _MASKED_AT_ONCE)) for start in starts]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def _times_mask(weight, mask):
    if mask is None:
        return weight
    mask = mask.astype("float32")
    if weight is None:
        return mask
    weight = ops.convert_to_numpy(weight)
    return mask * weight.reshape(weight.shape + (1,) * (mask.ndim - weight.ndim))
