"""Labels in their usual forms, read as class numbers."""

import numpy as np

# Soft labels come from float16 pipelines too, where a row of 100 entries sums to 1 only roughly.
_ROW_SUM_TOLERANCE = 1e-2


def to_numpy(values):
    """Returns an array, from anything array-like, on any device of any framework."""
    if hasattr(values, "detach"):  # a torch tensor may need gradients or live on a GPU
        values = values.detach().cpu()
    return np.asarray(values)


def class_ids(labels, num_classes=None, name="labels"):
    """Reads labels as class numbers.

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
    labels = to_numpy(labels)
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` must hold class numbers (0, 1, ...), one-hot or soft labels. Turn class "
            "names into numbers first, e.g. with `np.unique(names, return_inverse=True)`. "
            f"Received: an array of dtype {labels.dtype} and shape {labels.shape}"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _ids_of_rows(labels, num_classes, name), labels.shape[1]
    if labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1):
        return _ids_of_integers(labels.reshape(-1), num_classes, name), None
    raise ValueError(
        f"`{name}` must have shape (N,) or (N, 1) for integer labels, or (N, C) for one-hot or "
        f"soft ones. Received: shape {labels.shape}"
    )


def _ids_of_rows(rows, num_classes, name):
    if num_classes is not None and rows.shape[1] != num_classes:
        raise ValueError(
            f"One-hot or soft `{name}` must have one column per class. "
            f"Received: shape {rows.shape}, num_classes={num_classes}"
        )
    shares = rows.astype("float64", copy=False)
    # Written so that a NaN fails.
    is_label = (shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) < _ROW_SUM_TOLERANCE)
    if not is_label.all():
        at = int(np.argmin(is_label))
        raise ValueError(
            f"Each row of `{name}` must be one-hot or soft: shares >= 0 that sum to 1. "
            "Multi-label rows have no single class to count. "
            f"Received: row {at} = {np.array2string(rows[at], threshold=10)}"
        )
    return shares.argmax(axis=1).astype("int64", copy=False)


def _ids_of_integers(values, num_classes, name):
    # Integral floats are class numbers: many pipelines cast all they carry to float32.
    if values.dtype.kind == "f":
        is_integer = np.isfinite(values) & (values == np.floor(values))
        if not is_integer.all():
            at = int(np.argmin(is_integer))
            raise ValueError(
                f"`{name}` must be integers (class numbers 0, 1, ...). "
                f"Received: {name}[{at}]={values[at]}"
            )
    ids = values.astype("int64", copy=False)
    if ids.size and ids.min() < 0:
        at = int(np.argmin(ids))
        raise ValueError(
            f"`{name}` must not be negative. Leave samples without a class out before this call. "
            f"Received: {name}[{at}]={ids[at]}"
        )
    if num_classes is not None and ids.size and ids.max() >= num_classes:
        at = int(np.argmax(ids))
        raise ValueError(
            f"`{name}` must be below the number of classes, {num_classes}: classes are numbered "
            f"from 0. Received: {name}[{at}]={ids[at]}"
        )
    return ids
