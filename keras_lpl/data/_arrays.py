"""Inputs and labels held as arrays."""

from keras_lpl.data._labels import to_numpy


def check_arrays(x, y):
    """Returns `(x, y)` as NumPy arrays.

    Args:
        x: Inputs, numbers of shape `(N, ...)`, rank 2 or more.
        y: Labels, N of them, of any form.

    Raises:
        ValueError: If `x` has another form, or `x` and `y` do not match.
    """
    x, y = to_numpy(x), to_numpy(y)
    if x.dtype.kind not in "biuf" or x.ndim < 2:
        raise ValueError(
            "`x` must be images of shape (N, H, W, channels) or features of shape (N, D). "
            f"Received: dtype {x.dtype}, shape {x.shape}"
        )
    if y.ndim == 0 or len(x) != len(y) or not len(x):
        raise ValueError(
            "`x` and `y` must have the same length, at least 1. "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    return x, y
