"""Names that annotations share."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Tensor: TypeAlias = Any
"""A tensor of the active backend, or anything `keras.ops.convert_to_tensor` takes."""

Counts: TypeAlias = (
    Sequence[int] | Sequence[float] | Sequence[Sequence[int]] | Mapping[int, int] | np.ndarray
)
"""Training samples per class, `(classes,)` in the order of the class indices or a mapping from
class index to count. `(2,)` for one logit: negatives, positives. `(labels, 2)` for several labels.
"""
