"""Argument checks, shared by every loss, layer and metric.

An error names the argument, what is wrong with it, what was received, and what to do.

Labels are checked in `keras_lpl.core.labels`.
"""

import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

SOFT_LABEL_TOLERANCE = 0.02
"""A soft label sums to 1 give or take this much, as bfloat16 rounds its shares."""

MAX_COUNT = 2**63
"""No class has so many training samples."""

SHARES_TOLERANCE = 0.01


def class_counts(
    counts: Any,
    name: str = "class_counts",
    allow_zero: bool = False,
    multi_label: bool | None = None,
) -> tuple[Any, ...]:
    """Reads training counts as Python numbers, in the order of the class indices.

    A mapping and a pandas Series are read by their keys, so their own order does not matter.

    Args:
        counts: One number per class: a sequence, array or tensor in the order of the class indices,
            or a mapping or a pandas Series with the keys 0 to C - 1.
        name: The argument to name in errors.
        allow_zero: Take counts of zero.
        multi_label: True for two counts per label, negatives and positives; False for one per
            class; None for either.

    Returns:
        C numbers, or L pairs of numbers for several labels.

    Raises:
        ValueError: If `counts` has another form, or a count is not a positive finite number.
    """
    entries = in_class_order(counts, name)
    if multi_label is None:
        first = _entries(entries[0]) if entries else None
        multi_label = first is not None and len(first) == 2
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
    total = len(entries)
    read = tuple(_count(n, f"{name}[{c}]", allow_zero, total) for c, n in enumerate(entries))
    if 0 < min(read) < 1 and abs(sum(read) - 1) > SHARES_TOLERANCE:
        warnings.warn(
            f"`{name}` has entries below 1 that do not add up to 1, so they are neither counts nor "
            "shares. Are they class weights, which are larger for rare classes? Pass the counts "
            f"of the training set (`keras_lpl.data.class_counts(y)`). Received: {name}="
            f"{shortened(counts)}",
            stacklevel=2,
        )
    return read


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
        f"`{name}` must be a flat sequence with one number per class, or a mapping from class "
        f"indices to numbers. Received: {name}={shortened(counts)} (of type "
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


def _count(value, name, allow_zero, total=None):
    if getattr(value, "shape", None) == ():
        value = ops.convert_to_numpy(value).item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    if not is_number:
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
    among = "" if total is None else f", one of {total} counts"
    raise ValueError(
        f"`{_argument(name)}` must be positive: a class without training samples has no prior and "
        "no margin. Drop the class, merge it, or count the labels of the whole training set "
        f"(`keras_lpl.data.class_counts`). Received: {received}{among}"
    )


def class_weights(
    weights: Any, shape: tuple[int, ...], of_what: str, name: str = "class_weight"
) -> np.ndarray:
    """Reads weights of the classes, which may be 0, as a float32 array.

    Args:
        weights: As `counts` of `class_counts`.
        shape: The shape that they must have.
        of_what: What has as many classes, for the message.
        name: The argument to name in errors.

    Raises:
        ValueError: If they have another shape, or one is no finite number of at least 0.
    """
    try:
        array = np.asarray(in_class_order(weights, name))
    except ValueError as error:
        if "Received" in str(error):
            raise
        array = np.zeros((0,))
    if array.shape != tuple(shape):
        raise ValueError(
            f"There must be one class weight for each class of {of_what}, in the shape "
            f"{tuple(shape)}. Received: {name}={shortened(weights)}, of shape {array.shape}"
        )
    is_number = array.dtype.kind in "iuf"
    if not is_number or not np.all((array >= 0) & (array < np.inf)):
        raise ValueError(
            f"`{name}` must hold finite numbers of at least 0. Received: {name}="
            f"{shortened(weights)}"
        )
    return array.astype("float32")


def _argument(name):
    return name.split("[")[0]


def as_config(counts: Any) -> list[Any] | None:
    """Counts as lists of numbers, for JSON; None stays None."""
    if counts is None:
        return None
    return [list(n) if isinstance(n, tuple) else n for n in counts]


def number(
    value: Any,
    name: str,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: bool = False,
) -> float:
    """Returns `value` as a float within `[minimum, maximum]`, or raises `ValueError`.

    With `exclusive=True` the minimum itself is refused.
    """
    if _is_finite(value):
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
        + f". Received: {name}={shortened(value)}"
    )


def _is_finite(value):
    """True for a number that a float can hold."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def integer(value: Any, name: str, minimum: int) -> int:
    """Returns `value` as an `int` of at least `minimum`, or raises `ValueError`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={shortened(value)}"
        )
    return int(value)


def seed(value: Any) -> int:
    """Returns `value` as an `int` that NumPy's `RandomState` takes, or raises `ValueError`."""
    value = integer(value, "seed", minimum=0)
    if value >= 2**32:
        raise ValueError(f"`seed` must be below 2**32. Received: seed={shortened(value)}")
    return value


def one_of(value: Any, name: str, choices: Sequence[Any]) -> Any:
    """Returns `value` if it is one of `choices`, or raises `ValueError`."""
    if np.ndim(value) or value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. Received: {name}={shortened(value)}"
        )
    return value


def boolean(value: Any, name: str) -> bool:
    """Returns `value` as a bool, or raises `ValueError`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={shortened(value)}")
    return bool(value)
