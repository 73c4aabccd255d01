"""Functions that are the same wherever code is compiled: on JAX and TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core.typing import Tensor


def constant(array: np.ndarray, like: Any) -> Tensor:
    """A NumPy array as a tensor, of the dtype of `like` and where that is."""
    return ops.convert_to_tensor(array.astype(keras.backend.standardize_dtype(like.dtype)))


def ones(size: Any, like: Tensor) -> Tensor:
    """Ones, `(size,)`, of the dtype of `like`."""
    return ops.ones((size,), dtype=like.dtype)


def weighted_sums(
    x: Tensor, weight: Tensor, group: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    """Sums of `weight * x` and of `weight` over the rows of each group, each `(num_groups,)`."""
    return tuple(
        ops.segment_sum(column, group, num_segments=num_groups) for column in (x * weight, weight)
    )


def row_of_group(group: Tensor, num_groups: int, rows: Any) -> Tensor:
    """Index of one row of each group, integers `(num_groups,)`; any number for a group of none.

    Args:
        group: Integers `(rows,)`.
        num_groups: How many groups there are.
        rows: How many rows.
    """
    index = ops.arange(rows, dtype="int32")
    return -ops.segment_max(-index, group, num_segments=num_groups)


def make_crossentropy_of_indices(own_entry: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes `crossentropy_of_indices` from a backend's `own_entry`."""

    def crossentropy_of_indices(labels, logits):
        """Softmax cross-entropy of each row, `(rows,)`, of class indices `(rows,)`."""
        # Keras's writes all log-probabilities to memory, of which one a row is read.
        shifted = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
        total = ops.sum(ops.exp(shifted), axis=-1)
        return ops.log(total) - own_entry(shifted, labels)

    return crossentropy_of_indices


def make_own_probability(own_entry: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes `own_probability` from a backend's `own_entry`."""

    def own_probability(logits, labels):
        """Softmax probability of each row's class index, `(rows,)`, without a gradient."""
        # A softmax of all classes would be written to memory before one of its entries is read.
        # Where a term overflows, the probability is 0.
        own = ops.stop_gradient(own_entry(logits, labels))[:, None]
        return 1 / ops.sum(ops.exp(ops.stop_gradient(logits) - own), axis=-1)

    return own_probability
