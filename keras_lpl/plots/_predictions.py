"""Labels and predictions of a test set, as the pictures of one model read them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks


def read(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class indices of labels and of predictions, both `(samples,)`.

    Args:
        y_true: Class indices `(samples,)` or `(samples, 1)`, or one-hot `(samples, classes)`.
        y_pred: Class indices, or logits or probabilities `(samples, classes)`.

    Raises:
        ValueError: if the two are not of as many samples, or hold no class indices.
    """
    labels, predicted = _indices(y_true, "y_true"), _indices(y_pred, "y_pred")
    if len(labels) != len(predicted) or not len(labels):
        raise ValueError(
            "`y_true` and `y_pred` must be of the same samples, at least one. "
            f"Received: {len(labels)} labels and {len(predicted)} predictions"
        )
    classes = _num_columns(y_pred)
    if classes is not None and labels.max() >= classes:
        raise ValueError(
            f"`y_true` must hold classes below {classes}, as many as the predictions have; leave "
            f"ignored samples out. Received: the label {labels.max()}"
        )
    return labels, predicted


def _indices(values, name):
    values = np.asarray(ops.convert_to_numpy(values))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinite numbers")
    if values.ndim == 2 and values.shape[1] > 1:
        if name == "y_true" and np.any(np.abs(values.sum(axis=1) - 1) > 0.01):
            raise ValueError(
                "`y_true` must have one label for each sample: class indices, or rows that add up "
                "to 1. Draw several labels one by one. Received: rows with other sums"
            )
        return values.argmax(axis=1)
    values = values.reshape(-1) if values.ndim == 2 else values
    if values.ndim != 1 or not np.all(values == np.floor(values)) or values.min(initial=0) < 0:
        raise ValueError(
            f"`{name}` must be class indices of shape (samples,), or one number for each class, "
            f"(samples, classes). Received: {name} of shape {values.shape}"
        )
    return values.astype("int64")


def _num_columns(y_pred):
    """Number of classes of logits or probabilities; None for class indices."""
    shape: tuple[int, ...] = tuple(getattr(y_pred, "shape", ()))
    return int(shape[1]) if len(shape) == 2 and shape[1] > 1 else None


def count(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Samples by class (row) and by the class predicted (column)."""
    places = labels * num_classes + predicted
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def names_of(
    labels: np.ndarray, predicted: np.ndarray, y_pred: Any, class_names: Sequence[str] | None
) -> list[str]:
    """Names of the classes: those given, else their numbers."""
    found = max(int(max(labels.max(), predicted.max())) + 1, _num_columns(y_pred) or 0)
    if class_names is None:
        return [str(index) for index in range(found)]
    if len(class_names) < found:
        raise ValueError(
            "`class_names` must have one entry per class. "
            f"Received: {len(class_names)} names, and the class {found - 1}"
        )
    return [str(name) for name in class_names]


def in_order(class_counts: Any, num_classes: int) -> np.ndarray:
    """Class indices in drawing order: most frequent first, if the counts are given."""
    if class_counts is None:
        return np.arange(num_classes)
    counts = np.asarray(checks.class_counts(class_counts, allow_zero=True))
    if counts.shape != (num_classes,):
        raise ValueError(
            "`class_counts` must have one entry per class. "
            f"Received: counts of shape {counts.shape} for {num_classes} classes"
        )
    return np.argsort(-counts, kind="stable")
