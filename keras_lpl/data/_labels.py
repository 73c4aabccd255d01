"""Labels in their usual forms, read as class numbers."""

from typing import Any

import numpy as np

from keras_lpl.core.checks import SOFT_LABEL_TOLERANCE

# `np.bincount` reserves eight bytes for each class up to the largest label.
_MAX_CLASSES = 10**7


def to_numpy(values: Any) -> np.ndarray:
    """Returns an array, from anything array-like, on any device of any framework."""
    if hasattr(values, "detach"):  # a torch tensor may need gradients or live on a GPU
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    array = np.asarray(values)
    # NumPy knows no bfloat16: to it, the type of JAX and TensorFlow is not a number.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def label_array(labels: Any, name: str) -> np.ndarray:
    """Returns labels as an array of numbers or booleans.

    Raises:
        ValueError: If they are text, or anything else that is not a number.
    """
    try:
        array = to_numpy(labels)
        if array.dtype.kind == "O" and array.size:
            array = np.array(array.tolist())  # a table's column may hold plain integers as objects
    except ValueError as error:  # NumPy's, of rows of different lengths
        raise ValueError(
            f"`{name}` must be one array of labels. Pad sequences of different lengths, and leave "
            f"the padding out by `ignore_class` or sample weights of 0. Received: {error}"
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` must hold class numbers (0, 1, ...), one-hot or soft labels. Turn class "
            "names into numbers first, e.g. with `np.unique(names, return_inverse=True)`. "
            f"Received: an array of dtype {array.dtype} and shape {array.shape}"
        )
    return array


def class_ids(
    labels: Any, num_classes: int | None = None, name: str = "labels"
) -> tuple[np.ndarray, int | None]:
    """Reads one label per sample as class numbers.

    Args:
        labels: Integers, shape `(N,)` or `(N, 1)`, or one-hot or soft labels,
            shape `(N, C)` with rows that sum to 1.
        num_classes: Number of classes C, or `None` to take any.
        name: The argument to name in errors.

    Returns:
        `(ids, width)`: the class numbers, int64 `(N,)` (of soft labels: the
        class of the largest share, the lowest-numbered of equals), and C as the
        labels' shape gives it, `None` for integer labels.

    Raises:
        ValueError: If they are not labels of at most `num_classes` classes.
    """
    labels = label_array(labels, name)
    if labels.ndim == 2 and labels.shape[1] > 1:
        return ids_of_shares(labels, num_classes, name), labels.shape[1]
    if labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1):
        return ids_of_numbers(labels.reshape(-1), num_classes, name), None
    raise ValueError(
        f"`{name}` must have shape (N,) or (N, 1) for integer labels, or (N, C) for one-hot or "
        f"soft ones. Received: shape {labels.shape}"
    )


def ids_of_shares(
    labels: np.ndarray, num_classes: int | None, name: str, start: int = 0
) -> np.ndarray:
    """Reads one-hot or soft labels `(..., C)` as class numbers, int64 `(...)`.

    Args:
        labels: An array of numbers of rank 2 or more.
        num_classes: Number of classes C, or `None` to take any.
        name: The argument to name in errors.
        start: Where in the whole array the first of `labels` is, for errors.

    Raises:
        ValueError: If a row is no label, or there is not one column per class.
    """
    if num_classes is not None and labels.shape[-1] != num_classes:
        raise ValueError(
            f"One-hot or soft `{name}` must have one column per class. "
            f"Received: shape {labels.shape}, num_classes={num_classes}"
        )
    shares = labels.astype("float64", copy=False)
    # Written so that a NaN fails.
    is_one = np.abs(shares.sum(axis=-1) - 1) < SOFT_LABEL_TOLERANCE
    is_label = (shares >= 0).all(axis=-1) & is_one
    if not is_label.all():
        at = _first(~is_label)
        row = np.array2string(labels[at], threshold=10)
        raise ValueError(
            f"Each row of `{name}` must be one-hot or soft: shares >= 0 that sum to 1. "
            "Multi-label rows have no single class to count. "
            f"Received: row {_place(at, start)} = {row}"
        )
    return shares.argmax(axis=-1).astype("int64", copy=False)


def ids_of_numbers(
    labels: np.ndarray, num_classes: int | None, name: str, start: int = 0
) -> np.ndarray:
    """Reads numbers as class numbers, int64 of the same shape.

    Args:
        labels: An array of numbers of rank 1 or more.
        num_classes: Number of classes C, or `None` to take any.
        name: The argument to name in errors.
        start: Where in the whole array the first of `labels` is, for errors.

    Raises:
        ValueError: If one is not an integer from 0 to C - 1.
    """

    def received(is_bad):
        at = _first(is_bad)
        return f"Received: {name}[{_place(at, start)}]={labels[at]}"

    # Integral floats are class numbers: many pipelines cast all they carry to float32.
    if labels.dtype.kind == "f":
        is_integer = np.isfinite(labels) & (labels == np.floor(labels))
        if not is_integer.all():
            raise ValueError(
                f"`{name}` must be integers (class numbers 0, 1, ...). {received(~is_integer)}"
            )
    if labels.size and labels.min() < 0:
        raise ValueError(
            f"`{name}` must not be negative. Leave samples without a class out before this call. "
            f"{received(labels < 0)}"
        )
    # In the labels' own type: what int64 cannot hold must not wrap around first.
    if num_classes is not None and labels.size and labels.max() >= num_classes:
        raise ValueError(
            f"`{name}` must be below the number of classes, {num_classes}: classes are numbered "
            f"from 0. {received(labels >= num_classes)}"
        )
    if num_classes is None and labels.size and float(labels.max()) >= _MAX_CLASSES:
        raise ValueError(
            f"`{name}` must be class numbers 0, 1, ... without large gaps. Number the classes "
            "first, e.g. with `np.unique(labels, return_inverse=True)`. "
            f"{received(labels >= _MAX_CLASSES)}"
        )
    return labels.astype("int64", copy=False)


def _first(is_bad):
    return np.unravel_index(int(np.argmax(is_bad)), is_bad.shape)


def _place(at, start):
    return ", ".join(str(int(i)) for i in (at[0] + start, *at[1:]))
