"""Labels in every form a user has, read as one label per row.

A row is one prediction: a sample, a pixel, a token, or one of several labels of a sample. Labels
are read once, in `keras_lpl.core.samples`. Where their values are at hand (eager code), a bad one
raises; compiled code cannot raise, so there `is_label` is False for it, which makes the loss of its
row NaN.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.typing import Tensor

_NARROW = ("bool", "int8", "uint8", "int16", "uint16")


@dataclasses.dataclass(frozen=True)
class RowLabels:
    """One label per row.

    Attributes:
        labels: Integers `(rows,)`, each within `[0, classes)`; or soft `(rows, classes)`.
        is_label: bool `(rows,)`, False where the given label is none; or None if all are labels.
        is_ignored: bool `(rows,)`, True where the given label is `ignore_class`; or None.
    """

    labels: Tensor
    is_label: Tensor | None = None
    is_ignored: Tensor | None = None


def to_numbers(y_true: Tensor, name: str = "y_true") -> Tensor:
    """Labels as a tensor of numbers; booleans become 0 and 1.

    Raises:
        ValueError: for strings and other objects.
    """
    if y_true is None:
        raise ValueError(
            f"The loss compares logits with labels, and there are none: pass them, `fit(x, y)`. "
            f"Received: {name}=None"
        )
    if isinstance(y_true, (list, tuple)):
        try:
            y_true = np.asarray(y_true)
        except ValueError as error:
            raise ValueError(
                f"`{name}` must have as many labels for one sample as for another; pad them, and "
                f"pass `ignore_class` to the loss. Received: lists of several lengths, {error}"
            ) from error
    dtype = getattr(y_true, "dtype", None)
    if dtype == np.uint64 and isinstance(y_true, np.ndarray):  # unknown to PyTorch
        y_true = y_true.astype("int64")
    if isinstance(dtype, np.dtype) and dtype.kind not in "biuf" and dtype.name != "bfloat16":
        raise ValueError(_not_numbers(name, dtype))
    try:
        tensor = ops.convert_to_tensor(y_true)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(_not_numbers(name, dtype or type(y_true).__name__)) from error
    if dtype in ("string", "object") or "complex" in dtype:
        raise ValueError(_not_numbers(name, dtype))
    if dtype in _NARROW:  # they wrap when they are compared with a number of classes
        return ops.cast(tensor, "int32")
    if dtype in ("uint32", "uint64"):  # they know no -1
        return ops.cast(tensor, engines.INDEX_DTYPE)
    return ops.cast(tensor, "float32") if dtype in ("bfloat16", "float16") else tensor


def _not_numbers(name, dtype):
    return (
        f"`{name}` must hold numbers: class indices from 0, or one-hot or soft labels. Turn names "
        "into indices first, for example with `np.unique(names, return_inverse=True)[1]`, and "
        "objects that are numbers into numbers, `y.astype('int64')`. "
        f"Received: labels of dtype {dtype}"
    )


def read_indices(
    labels: Tensor,
    classes: int,
    ignore_class: int | None,
    weight: Tensor | None,
    name: str,
    check_values: bool = True,
) -> RowLabels:
    """Reads class indices `(rows,)`.

    Args:
        labels: As `to_numbers` returns them.
        classes: Number of classes.
        ignore_class: The label that takes no part, or None.
        weight: `(rows,)` or None. A row of weight 0 may have any label.
        name: What to call the labels in an error.
        check_values: Look at values that are at hand, and raise if one is bad.
    """
    values = engines.concrete(labels) if check_values else None
    if values is not None and not _all_in_range(values, classes):
        is_bad = ~((values >= 0) & (values < classes) & (values == np.floor(values)))
        if ignore_class is not None:
            is_bad &= values != ignore_class
        if is_bad.any():
            is_bad &= _takes_part(weight)
        if is_bad.any():
            raise ValueError(_bad_index(values, is_bad, classes, name))
    if values is not None and ignore_class is None and weight is None:  # all are classes
        return RowLabels(ops.cast(labels, engines.INDEX_DTYPE))
    is_class = ops.logical_and(labels >= 0, labels < classes)
    if keras.backend.is_float_dtype(labels.dtype):
        is_class = ops.logical_and(is_class, ops.equal(labels, ops.floor(labels)))
    is_ignored = None
    if ignore_class is not None:
        is_ignored = ops.equal(labels, ops.cast(ignore_class, labels.dtype))
    # Replaced before the cast: casting NaN or 1e20 to an integer is undefined.
    labels = ops.where(is_class, labels, ops.zeros_like(labels))
    return RowLabels(ops.cast(labels, engines.INDEX_DTYPE), is_class, is_ignored)


def _all_in_range(values, classes):
    """True where a look at the smallest and the largest label is enough, as nearly always."""
    if values.dtype.kind not in "iu" or values.size == 0:
        return False
    return values.min() >= 0 and values.max() < classes


def read_soft(
    labels: Tensor, weight: Tensor | None, name: str, check_values: bool = True
) -> RowLabels:
    """Reads one-hot or soft labels, floating `(rows, classes)`.

    Args:
        labels: Rows that sum to 1.
        weight: `(rows,)` or None. A row of weight 0 may have any label.
        name: What to call the labels in an error.
        check_values: Look at values that are at hand, and raise if one is bad.
    """
    values = engines.concrete(labels) if check_values else None
    if values is not None:
        values = values.astype("float64")
        sums = values.sum(axis=-1)
        is_bad = ~((values.min(axis=-1) >= 0) & (np.abs(sums - 1) < checks.SOFT_LABEL_TOLERANCE))
        # Keras builds models on PyTorch with a batch of ones.
        if is_bad.any() and not np.all(values == 1):
            is_bad &= _takes_part(weight)
            if is_bad.any():
                raise ValueError(_bad_soft(values, is_bad, name))
        elif not is_bad.any():
            return RowLabels(labels)
    is_label = ops.logical_and(
        ops.min(labels, axis=-1) >= 0,
        ops.abs(ops.sum(labels, axis=-1) - 1) < checks.SOFT_LABEL_TOLERANCE,
    )
    even = 1.0 / labels.shape[-1]
    return RowLabels(ops.where(is_label[:, None], labels, even), is_label)


def read_shares(
    labels: Tensor,
    ignore_class: int | None,
    weight: Tensor | None,
    name: str,
    dtype: str,
    check_values: bool = True,
) -> RowLabels:
    """Reads labels of one logit, `(rows,)`: the share of the second class, 0, 1 or between.

    Returns:
        Indices if the labels are integers, else soft labels `(rows, 2)`.
    """
    if not keras.backend.is_float_dtype(labels.dtype):
        return read_indices(labels, 2, ignore_class, weight, name, check_values)
    values = engines.concrete(labels) if check_values else None
    if values is not None:
        is_bad = ~((values >= 0) & (values <= 1))
        if ignore_class is not None:
            is_bad &= values != ignore_class
        if is_bad.any():
            is_bad &= _takes_part(weight)
        if is_bad.any():
            raise ValueError(_bad_share(values, is_bad, name))
    labels = ops.cast(labels, dtype)
    is_label = ops.logical_and(labels >= 0, labels <= 1)
    is_ignored = None if ignore_class is None else ops.equal(labels, ignore_class)
    if values is not None and ignore_class is None and weight is None:
        is_label = None
    else:
        labels = ops.where(is_label, labels, 0.0)
    return RowLabels(ops.stack([1 - labels, labels], axis=-1), is_label, is_ignored)


def _takes_part(weight):
    """Rows whose label matters, as far as it is known."""
    values = None if weight is None else engines.concrete(weight)
    return True if values is None else values != 0


def _first(values, is_bad):
    at = int(np.flatnonzero(is_bad)[0])
    return at, values[at]


def _bad_index(values, is_bad, classes, name):
    at, value = _first(values, is_bad)
    if value != np.floor(value):
        return (
            f"`{name}` must hold whole class indices. Received: {name}[{at}]={value:g}. Soft "
            f"labels need an axis of {classes} classes."
        )
    if classes == 2 and value > 1:
        way_out = "A model of one logit tells two classes apart; use as many logits as classes."
    elif value == classes and values.min() >= 1:
        way_out = "Classes are numbered from 0, and these labels seem to begin at 1: subtract 1."
    elif value < 0 or value > 2 * classes:
        way_out = (
            f"If it marks padding or unlabelled rows, pass `ignore_class={value:g}` to the loss "
            "and to the metrics of this package, or give those rows the sample weight 0."
        )
    else:
        way_out = "Widen the model's head if there are more classes."
    return (
        f"`{name}` must lie in [0, {classes}): the logits have {classes} classes. "
        f"Received: {name}[{at}]={value:g}. {way_out}"
    )


def _bad_soft(values, is_bad, name):
    at, row = _first(values, is_bad)
    several = ""
    if np.all((row >= 0) & (row <= 1)):
        several = (
            " If a sample may have several labels at once, or none, pass `multi_label=True` to the "
            "loss and to the metrics of this package."
        )
    return (
        "Soft labels must be non-negative and sum to 1 for each sample. Received: "
        f"{name}[{at}] with minimum {row.min():g} and sum {row.sum():g}.{several}"
    )


def _bad_share(values, is_bad, name):
    at, value = _first(values, is_bad)
    way_out = ""
    if value == np.floor(value):
        way_out = (
            f" If it marks unlabelled rows, pass `ignore_class={value:g}` to the loss and to the "
            "metrics of this package."
        )
    return (
        f"`{name}` of one logit must be 0, 1 or between: the share of the second class. "
        f"Received: {name}[{at}]={value:g}.{way_out}"
    )
