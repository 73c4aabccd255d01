"""Functions that are the same wherever code is compiled: on JAX and TensorFlow."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core.typing import Tensor


def constant(array: np.ndarray, like: Any) -> Tensor:
    """A NumPy array as a tensor, of the dtype of `like` and where that is."""
    return ops.convert_to_tensor(array.astype(keras.backend.standardize_dtype(like.dtype)))


def crossentropy_of_indices(labels: Tensor, logits: Tensor) -> Tensor:
    """Softmax cross-entropy of each row, `(rows,)`, of class indices `(rows,)`."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def own_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax probability of each row's class index, `(rows, 1)`."""
    # A softmax of all classes would be written to memory before one of its entries is read.
    largest = ops.max(logits, axis=-1, keepdims=True)
    total = ops.sum(ops.exp(logits - largest), axis=-1, keepdims=True)
    return ops.exp(ops.take_along_axis(logits, labels[:, None], axis=-1) - largest) / total
