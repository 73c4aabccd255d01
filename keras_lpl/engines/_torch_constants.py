"""Tensors on PyTorch that are made once: of arrays that nobody writes to, and ones."""

import weakref
from typing import Any

import numpy as np
import torch

from keras_lpl.core.typing import Tensor

_ONE = np.ones(())
_ONE.flags.writeable = False

# Tensors of read-only arrays, by the array's id, as long as it lives.
_constants: dict[Any, tuple[Any, Tensor]] = {}


def constant(array: np.ndarray, like: Tensor) -> Tensor:
    """A NumPy array as a tensor; see `keras_lpl.engines._compiled`.

    Made once of an array that nobody can write to: to a GPU, it would be sent in every step.
    """
    if torch.compiler.is_compiling():  # it knows no ids
        return torch.compiler.disable(_constant)(array, like)
    return _constant(array, like)


def _constant(array, like):
    key = (id(array), like.dtype, like.device)
    if key in _constants:
        return _constants[key][1]
    with torch.inference_mode(False):  # whoever comes first, the tensor is for training too
        tensor = torch.tensor(array.astype("float64"), dtype=like.dtype, device=like.device)
    if not array.flags.writeable:
        _constants[key] = weakref.ref(array, lambda _: _constants.pop(key, None)), tensor
    return tensor


def ones(size: int, like: Tensor) -> Tensor:
    """Ones, `(size,)`, all of them one number in memory, by which `are_ones` knows them."""
    return constant(_ONE, like).expand(size)


def are_ones(x: Tensor) -> bool:
    """True for what `ones` has returned. The values are not looked at."""
    if torch.compiler.is_compiling():  # it knows no memory
        return False
    return x.stride() == (0,) and x.data_ptr() == constant(_ONE, x).data_ptr()
