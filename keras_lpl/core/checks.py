"""Argument checks, shared by every loss, layer and metric.

An error names the argument, what is wrong with it, what was received, and what to do.

Labels are checked in `keras_lpl.core.labels`.
"""

import numbers
from typing import Any

import keras
import numpy as np


def class_counts(counts, name="class_counts", allow_zero=False, multi_label=None):
    """Returns `counts` as a tuple of Python numbers, or raises `ValueError`.

    Args:
        counts: One count per class, or `(labels, 2)` counts of several labels.
        name: What to call them in an error.
        allow_zero: Take counts of zero.
        multi_label: True for `(labels, 2)`, False for `(classes,)`, None for either.

    Returns:
        A tuple of numbers, or a tuple of `(negatives, positives)` for several labels.
    """
    if hasattr(counts, "shape"):
        counts = keras.ops.convert_to_numpy(counts)
    try:
        array = np.asarray(counts, dtype="float64")
    except (TypeError, ValueError):
        array = None
    if array is not None and array.ndim == 2 and array.shape[1] == 2 and multi_label is not False:
        return tuple(class_counts(pair, name, allow_zero) for pair in array)
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


def as_config(counts):
    """Counts as lists of numbers, for JSON; None stays None."""
    if counts is None:
        return None
    return [list(n) if isinstance(n, tuple) else n for n in counts]


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


def boolean(value: Any, name: str) -> bool:
    """Returns `value` as a bool, or raises `ValueError`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)
