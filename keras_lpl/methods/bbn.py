"""Bilateral-branch mixing of BBN (Zhou et al., 2020): two branches, and the share of the first.

    z = a W_c' f_c + (1 - a) W_r' f_r                           (Eq. 1)
    L = a E(softmax(z), y_c) + (1 - a) E(softmax(z), y_r)       (Eq. 3)
    a = 1 - (t / T)^2                                           (Eq. 4)

`f_c` are features of uniformly drawn samples from the conventional branch, `f_r` of samples drawn
in reverse to their class's frequency from the re-balancing branch. In prediction a = 1/2. Both
kernels are one here, that of a layer on the features side by side: `[a f_c, (1 - a) f_r]`.

Reference: "BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual
Recognition", CVPR 2020.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor

SCHEDULES = {
    "parabolic": lambda progress: 1 - ops.square(progress),
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: ops.cos(progress * (math.pi / 2)),
}


def checked_mixing(mixing: Any) -> str | float:
    """`mixing` as `conventional_share` takes it."""
    if isinstance(mixing, str):
        checks.one_of(mixing, "mixing", tuple(SCHEDULES))
        return mixing
    return checks.number(mixing, "mixing", minimum=0, maximum=1)


def conventional_share(progress: Tensor, mixing: str | float) -> Tensor:
    """Share `a` of the conventional branch (Eq. 4), a scalar.

    Args:
        progress: Share of the training that is done, t / T.
        mixing: A name of `SCHEDULES`, or the share itself.
    """
    if isinstance(mixing, str):
        return SCHEDULES[mixing](ops.cast(progress, "float32"))
    return ops.convert_to_tensor(mixing, dtype="float32")


def mix_features(conventional: Tensor, rebalancing: Tensor, share: Any) -> Tensor:
    """`[a f_c, (1 - a) f_r]`, `(batch, ..., F_c + F_r)`."""
    share = ops.cast(share, conventional.dtype)
    return ops.concatenate([share * conventional, (1 - share) * rebalancing], axis=-1)


@register
class BranchMixing(keras.layers.Layer):
    """Where two branches of a `keras_lpl.models.BBNModel` meet, in front of its last layer.

    In prediction each has a share of one half. In training the model sets the share, and each
    branch sees samples of its own.

    Args:
        name: Name of the layer.

    Raises:
        ValueError: when called, for anything but two branches.

    Example:

    >>> inputs = keras.Input((8,))
    >>> branches = [keras.layers.Dense(4, "relu")(inputs) for _ in range(2)]
    >>> mixed = keras_lpl.layers.BranchMixing()(branches)
    >>> model = keras_lpl.models.BBNModel(inputs, keras.layers.Dense(3)(mixed))
    """

    def call(self, branches: Any) -> Tensor:
        """The features of both, side by side, each halved.

        Args:
            branches: `(conventional, rebalancing)`, features `(batch, ..., F)` of each.
        """
        conventional, rebalancing = branches
        return mix_features(conventional, rebalancing, 0.5)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Shape of the features side by side."""
        first, second = input_shape
        return (*first[:-1], first[-1] + second[-1])

    def build(self, input_shape: Any) -> None:
        """Checks that there are two branches."""
        if len(input_shape) != 2 or not isinstance(input_shape[0], (tuple, list)):
            raise ValueError(
                "`BranchMixing` takes a list of two: the conventional branch, and the re-balancing "
                f"one. Received: an input of shape {input_shape}"
            )
        super().build(input_shape)
