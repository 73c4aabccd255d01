"""Argument and label checks, shared by every loss, layer and metric.

An error names the argument, what is wrong with it, what was received, and what to do.

Hyper-parameters are always checked. Labels are checked where their values are at hand (eager
code); compiled code cannot raise, so there a bad label becomes `NO_CLASS`, which selects nothing
and makes the loss of its sample NaN: visible (`keras.callbacks.TerminateOnNaN`), and never
another class's loss.
"""

import numbers

import keras
import numpy as np
from keras import ops

NO_CLASS = -1
"""The class index of a label that is not a class: out of range, not an integer, or NaN."""


def class_counts(counts, name="class_counts", allow_zero=False):
    """Returns `counts` as a tuple of Python numbers, or raises `ValueError`."""
    if hasattr(counts, "shape"):
        counts = keras.ops.convert_to_numpy(counts)
    try:
        array = np.asarray(counts, dtype="float64")
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim != 1 or array.size < 2:
        raise ValueError(
            f"`{name}` must be a flat sequence with one training count per class, for at least "
            f"two classes. Received: {name}={counts!r}"
        )
    bad = np.flatnonzero(~(np.isfinite(array) & ((array > 0) | (allow_zero & (array == 0)))))
    if bad.size and allow_zero:
        raise ValueError(
            f"`{name}` must be finite and not negative. Count the whole training set "
            f"(`keras_lpl.data.class_counts`). Received: {name}[{bad[0]}]={array[bad[0]]:g}"
        )
    if bad.size:
        raise ValueError(
            f"`{name}` must be positive: a class without training samples has no prior and no "
            "margin. Drop the class, merge it, or count the whole training set "
            f"(`keras_lpl.data.class_counts`). Received: {name}[{bad[0]}]={array[bad[0]]:g}"
        )
    return tuple(int(n) if n == int(n) else float(n) for n in array)


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
    # Loose enough for labels that went through bfloat16.
    bad = np.flatnonzero(~((values.min(axis=-1) >= 0) & (np.abs(sums - 1) < 0.02)))
    if bad.size:
        raise ValueError(
            f"Soft labels must be non-negative and sum to 1 for each sample. Received: {name}"
            f"[{bad[0]}] with minimum {values[bad[0]].min():g} and sum {sums[bad[0]]:g}"
        )
