"""Argument and label checks, shared by every loss, layer and metric.

An error names the argument, what is wrong with it, what was received, and what to do.

Hyper-parameters are always checked. Labels are checked where their values are at hand (eager
code); compiled code cannot raise, so there a bad label becomes `NO_CLASS`, which selects nothing
and makes the loss of its sample NaN: visible (`keras.callbacks.TerminateOnNaN`), and never
another class's loss.
"""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

NO_CLASS = -1
"""The class index of a label that is not a class: out of range, not an integer, or NaN."""

SOFT_LABEL_TOLERANCE = 0.02
"""How far the shares of a soft label may be from a sum of 1, after float16 or bfloat16."""

MAX_COUNT = 2**63
"""No class has so many training samples."""


def class_counts(
    counts: Any, name: str = "class_counts", allow_zero: bool = False, multi_label: bool = False
) -> tuple:
    """Reads training counts as Python numbers, in the order of the class indices.

    A mapping and a pandas Series are read by their keys, so their own order does not matter.

    Args:
        counts: One number per class: a sequence, array or tensor in the order of the class indices,
            or a mapping or a pandas Series with the keys 0 to C - 1.
        name: The argument to name in errors.
        allow_zero: Whether a class may have no samples.
        multi_label: Whether each of L labels has two counts, negatives and positives.

    Returns:
        C numbers; with `multi_label=True`, L pairs of numbers.

    Raises:
        ValueError: If `counts` has another form, or a count is not a positive finite number.
    """
    entries = in_class_order(counts, name)
    if multi_label:
        pairs = [_entries(entry) for entry in entries]
        if not pairs or any(pair is None or len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"`{name}` must hold two counts for each label, negatives and positives, of shape "
                "(L, 2): `keras_lpl.data.class_counts(y, multi_label=True)` returns them. "
                f"Received: {name}={shortened(counts)}"
            )
        return tuple(
            tuple(_count(n, f"{name}[{row}][{side}]", allow_zero) for side, n in enumerate(pair))
            for row, pair in enumerate(pairs)
        )
    if len(entries) < 2 or any(_entries(entry) is not None for entry in entries):
        raise ValueError(
            f"`{name}` must be a flat sequence with one training count per class, for at least "
            "two classes (for two counts per label, pass `multi_label=True`). "
            f"Received: {name}={shortened(counts)}"
        )
    if any(isinstance(entry, str) for entry in entries):
        raise ValueError(
            f"`{name}` must hold numbers, not text. Received: {name}={shortened(counts)}"
        )
    return tuple(_count(n, f"{name}[{label}]", allow_zero) for label, n in enumerate(entries))


def in_class_order(counts: Any, name: str) -> list:
    """Returns the entries of `counts` in the order of the class indices.

    Raises:
        ValueError: If `counts` is no sequence, array, mapping or Series, or its keys are not
            exactly 0 to C - 1.
    """
    if isinstance(counts, Mapping):
        return _by_key(list(counts), list(counts.values()), counts, name)
    if _is_table(counts):
        if len(counts.shape) == 1:
            return _by_key(list(counts.index), _entries(np.asarray(counts)), counts, name)
    else:
        entries = _entries(counts)
        if entries is not None:
            return entries
    raise ValueError(
        f"`{name}` must be a flat sequence with one training count per class, or a mapping from "
        f"class indices to counts. Received: {name}={shortened(counts)} (of type "
        f"{type(counts).__name__})"
    )


def shortened(value: Any, limit: int = 200) -> str:
    """Returns `repr(value)`, cut where it is too long for an error message."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_table(value):
    # pandas is not imported. Lists have an `index` too: a method.
    return hasattr(value, "shape") and not callable(getattr(value, "index", len))


def _entries(value):
    """The entries of a sequence, array or tensor of rank 1 or more as a list, or None."""
    if hasattr(value, "shape"):
        if not len(value.shape):
            return None
        return ops.convert_to_numpy(value).tolist()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(value)
    return None


def _by_key(keys, values, counts, name):
    keys = [key.item() if isinstance(key, np.generic) else key for key in keys]
    is_index = [isinstance(key, numbers.Integral) and not isinstance(key, bool) for key in keys]
    if not all(is_index):
        at = is_index.index(False)
        raise ValueError(
            f"`{name}` is read by its keys, which must be the class indices 0, 1, ... Number the "
            "classes, or pass a list in the order of the class indices, such as "
            f"`[counts[key] for key in class_names]`. Received: the key {keys[at]!r} (of type "
            f"{type(keys[at]).__name__}) in {name}={shortened(counts)}"
        )
    if sorted(keys) != list(range(len(keys))):
        raise ValueError(
            f"`{name}` is read by its keys, which must be the class indices from 0 to C - 1, each "
            "once. Count all classes (`keras_lpl.data.class_counts(y, num_classes=C)`), or number "
            f"them without gaps. Received: the keys {shortened(sorted(keys))}"
        )
    by_key = dict(zip(keys, values, strict=True))
    return [by_key[key] for key in range(len(keys))]


def _count(value, name, allow_zero):
    if getattr(value, "shape", None) == ():
        value = ops.convert_to_numpy(value).item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise ValueError(
            f"`{_argument(name)}` must hold numbers. Received: {name}={shortened(value)} (of type "
            f"{type(value).__name__})"
        )
    if -MAX_COUNT < value < MAX_COUNT and (value > 0 or (allow_zero and value == 0)):
        return int(value) if value == int(value) else float(value)
    try:
        received = f"{name}={value:g}"
    except OverflowError:
        received = f"{name}={'-' * (value < 0)}2**{abs(int(value)).bit_length() - 1} or beyond"
    if value >= MAX_COUNT:
        raise ValueError(
            f"`{_argument(name)}` must be below 2**63, more samples than any training set has. "
            f"Received: {received}"
        )
    if allow_zero:
        raise ValueError(
            f"`{_argument(name)}` must be finite and not negative. Count the whole training set "
            f"(`keras_lpl.data.class_counts`). Received: {received}"
        )
    raise ValueError(
        f"`{_argument(name)}` must be positive: a class without training samples has no prior and "
        "no margin. Drop the class, merge it, or count the whole training set "
        f"(`keras_lpl.data.class_counts`). Received: {received}"
    )


def _argument(name):
    return name.split("[")[0]


def number(value, name, minimum=None, maximum=None, exclusive=False):
    """Returns `value` as a float within `[minimum, maximum]`, or raises `ValueError`.

    With `exclusive=True` the minimum itself is refused.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and np.isfinite(value):
        above = minimum is None or (value > minimum if exclusive else value >= minimum)
        if above and (maximum is None or value <= maximum):
            return float(value)
    words = []
    if minimum is not None:
        words.append(f"{'greater than' if exclusive else 'at least'} {minimum}")
    if maximum is not None:
        words.append(f"at most {maximum}")
    raise ValueError(
        f"`{name}` must be a finite number {' and '.join(words)}".rstrip()
        + f". Received: {name}={value!r}"
    )


def integer(value, name, minimum):
    """Returns `value` as an `int` of at least `minimum`, or raises `ValueError`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}"
        )
    return int(value)


def seed(value):
    """Returns `value` as an `int` that NumPy's `RandomState` takes, or raises `ValueError`."""
    value = integer(value, "seed", minimum=0)
    if value >= 2**32:
        raise ValueError(f"`seed` must be below 2**32. Received: seed={value}")
    return value


def one_of(value, name, choices):
    """Returns `value` if it is one of `choices`, or raises `ValueError`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {list(choices)}. Received: {name}={value!r}")
    return value


def num_classes(logits):
    """Returns the static number of classes of `logits` of shape `(batch, num_classes)`."""
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            "The model's output must be logits of shape (batch, num_classes) with at least two "
            "classes. For dense predictions, reshape outputs and labels to that rank; for two "
            f"classes with one output unit, use two units. Received: logits of shape {shape}"
        )
    return shape[-1]


def counts_match(counts, logits, name="class_counts"):
    """Raises `ValueError` unless there is one count per column of `logits`."""
    classes = num_classes(logits)
    if len(counts) != classes:
        raise ValueError(
            f"`{name}` must have one entry per class. Received: {len(counts)} counts for logits "
            f"of {classes} classes"
        )


def concrete(tensor):
    """Returns the values of `tensor` as a NumPy array, or None while code is being traced."""
    try:
        return ops.convert_to_numpy(tensor)
    except Exception:  # every framework has its own error for "this has no value yet"
        return None


def is_soft(labels, classes):
    """Whether `labels` are one-hot or soft, told by their static shape `(batch, classes)`."""
    shape = tuple(labels.shape)
    if len(shape) == 2 and shape[-1] == classes:
        return True
    if len(shape) == 1 or (len(shape) == 2 and shape[-1] == 1):
        return False
    raise ValueError(
        "Labels must be class indices of shape (batch,) or (batch, 1), or one-hot or soft labels "
        f"of shape (batch, num_classes) with num_classes={classes}. "
        f"Received: labels of shape {shape}"
    )


def labels(labels, logits, name="y_true"):
    """Brings labels to one of two forms, told apart by rank.

    Args:
        labels: Class indices `(batch,)` or `(batch, 1)`, or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`.
        name: What to call the labels in an error.

    Returns:
        int32 `(batch,)` with `NO_CLASS` for what is not a class of `logits`, or floating
        `(batch, num_classes)` as they came.

    Raises:
        ValueError: if the shapes do not fit, or if the values are at hand and wrong.
    """
    classes = num_classes(logits)
    labels = ops.convert_to_tensor(labels)
    if is_soft(labels, classes):
        values = concrete(labels)
        if values is not None:
            _check_soft_values(values, name)
        return ops.cast(labels, logits.dtype)
    labels = ops.reshape(labels, (-1,))
    values = concrete(labels)
    if values is not None:
        _check_index_values(values, classes, name)
    return class_indices(labels, classes)


def class_indices(labels, classes):
    """Casts flat labels to int32, with `NO_CLASS` for everything that is not a class."""
    is_class = ops.logical_and(labels >= 0, labels < classes)
    if keras.backend.is_float_dtype(labels.dtype):
        is_class = ops.logical_and(is_class, ops.equal(labels, ops.floor(labels)))
        # Replaced before the cast: casting NaN or 1e20 to an integer is undefined.
        labels = ops.where(is_class, labels, ops.zeros_like(labels))
    return ops.where(is_class, ops.cast(labels, "int32"), NO_CLASS)


def _check_index_values(values, classes, name):
    if not (np.issubdtype(values.dtype, np.number)):
        raise ValueError(
            f"`{name}` must hold class indices. Received: labels of dtype {values.dtype}"
        )
    values = values.astype("float64")
    bad = np.flatnonzero(~(values == np.floor(values)))
    if bad.size:
        raise ValueError(
            f"`{name}` must hold whole class indices. Received: {name}[{bad[0]}]="
            f"{values[bad[0]]:g}. Soft labels need shape (batch, {classes})."
        )
    bad = np.flatnonzero((values < 0) | (values >= classes))
    if bad.size:
        raise ValueError(
            f"`{name}` must lie in [0, {classes}): the logits have {classes} classes. "
            f"Received: {name}[{bad[0]}]={values[bad[0]]:g}. Give padding a valid class and "
            "sample weight 0, or widen the model's head."
        )


def _check_soft_values(values, name):
    values = values.astype("float64")
    if np.all(values == 1):
        return  # Keras builds on torch with a batch of ones, which nobody has as labels.
    sums = values.sum(axis=-1)
    is_one = np.abs(sums - 1) < SOFT_LABEL_TOLERANCE
    bad = np.flatnonzero(~((values.min(axis=-1) >= 0) & is_one))
    if bad.size:
        raise ValueError(
            f"Soft labels must be non-negative and sum to 1 for each sample. Received: {name}"
            f"[{bad[0]}] with minimum {values[bad[0]].min():g} and sum {sums[bad[0]]:g}"
        )
