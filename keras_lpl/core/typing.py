"""The few names that annotations share."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Tensor: TypeAlias = Any
"""A tensor of the active backend, or anything `keras.ops.convert_to_tensor` takes."""

Counts: TypeAlias = Sequence[int] | Sequence[float] | np.ndarray
"""Training samples per class, shape `(num_classes,)`, in the order of the class indices."""
