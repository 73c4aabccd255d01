"""Inputs and labels held as arrays."""

from typing import Any

import numpy as np

from keras_lpl.data._labels import label_array, to_numpy


def check_arrays(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns `(x, y)` as NumPy arrays.

    Args:
        x: Inputs, numbers of shape `(N, ...)`, rank 2 or more.
        y: Labels, N of them, numbers of any form.

    Raises:
        ValueError: If `x` or `y` has another form, is empty, or they do not match.
    """
    x, y = to_numpy(x), label_array(y, "y")
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
    if not x.size or not y.size:
        raise ValueError(
            "`x` and `y` must not be empty: every axis must have a length of at least 1. "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    return x, y
