"""The parts that the residual networks for small images share.

Three details decide whether a Keras network is the network of the papers:

- A 3x3 convolution of stride 2 pads one pixel on every side. `padding="same"` pads an even image
  at the bottom and right only, which moves the result by a pixel against its shortcut.
- Batch normalisation has momentum 0.9 (PyTorch's 0.1) and epsilon 1e-5, not Keras's defaults.
- Weight decay is an L2 penalty on every parameter, and goes through the momentum. The
  `weight_decay` of Keras optimizers is decoupled: with momentum 0.9 it is ten times weaker.
"""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from keras_lpl.core.typing import Tensor
from keras_lpl.networks._layers import BatchNormalization, Conv2D


@keras.saving.register_keras_serializable(package="keras_lpl")
class ZeroPaddedShortcut(layers.Layer):
    """The shortcut without parameters, option A of He et al. (2016).

    Keeps every `strides`-th pixel, and adds channels of zeros, half of them on either side.

    Args:
        filters: Channels of the output, at least as many as the input has.
        strides: Step between the pixels that are kept.
        **kwargs: As for `keras.layers.Layer`.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

    def call(self, inputs: Tensor) -> Tensor:
        """Maps `(batch, height, width, channels)` to fewer pixels and more channels."""
        missing = self.filters - inputs.shape[-1]
        if missing < 0:
            raise ValueError(
                "A zero-padded shortcut can only add channels. Received: an input of "
                f"{inputs.shape[-1]} channels for filters={self.filters}"
            )
        kept = inputs[:, :: self.strides, :: self.strides, :]
        return ops.pad(kept, [(0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


@dataclasses.dataclass(frozen=True)
class Parts:
    """Layers that share one weight decay, applied to a tensor under a name."""

    weight_decay: float = 0.0

    def penalty(self) -> keras.regularizers.Regularizer | None:
        """The regularizer whose gradient is `weight_decay * parameter`."""
        return keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None

    def conv(
        self, x: Tensor, filters: int, name: str, kernel_size: int = 3, strides: int = 1
    ) -> Tensor:
        """A convolution without bias that keeps the image's size, or divides it by `strides`."""
        padding = "same"
        if strides > 1:
            padding = "valid"
            if kernel_size > 1:
                x = layers.ZeroPadding2D(
                    kernel_size // 2, data_format="channels_last", name=f"{name}_padding"
                )(x)
        return Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            data_format="channels_last",
            kernel_initializer="he_normal",
            kernel_regularizer=self.penalty(),
            name=name,
        )(x)

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Batch normalisation with the constants of the recipes."""
        return BatchNormalization(
            axis=-1,
            momentum=0.9,
            epsilon=1e-5,
            gamma_regularizer=self.penalty(),
            beta_regularizer=self.penalty(),
            name=name,
        )(x)

    def squeeze_excite(self, x: Tensor, ratio: int, name: str) -> Tensor:
        """Scales each channel by a gate computed from all channels' means (Hu et al., 2018)."""
        channels = x.shape[-1]
        gate = layers.GlobalAveragePooling2D(
            data_format="channels_last", keepdims=True, name=f"{name}_squeeze"
        )(x)
        gate = layers.Dense(
            max(1, channels // ratio),
            activation="relu",
            kernel_initializer="he_normal",
            kernel_regularizer=self.penalty(),
            bias_regularizer=self.penalty(),
            name=f"{name}_reduce",
        )(gate)
        gate = layers.Dense(
            channels,
            activation="sigmoid",
            kernel_regularizer=self.penalty(),
            bias_regularizer=self.penalty(),
            name=f"{name}_expand",
        )(gate)
        return layers.Multiply(name=f"{name}_scale")([x, gate])

    def logits(self, x: Tensor, num_classes: int, head: Callable[..., Any] | None) -> Tensor:
        """Pools the image to `"features"` and maps them to `num_classes` logits by `"head"`.

        Both compute in the variables' dtype: float32 under a mixed policy, since a loss that
        perturbs logits should not start from bfloat16's three digits.
        """
        dtype = keras.config.dtype_policy().variable_dtype
        features = layers.GlobalAveragePooling2D(
            data_format="channels_last", dtype=dtype, name="features"
        )(x)
        if head is None:
            head = layers.Dense(
                num_classes,
                kernel_initializer="he_normal",
                kernel_regularizer=self.penalty(),
                bias_regularizer=self.penalty(),
                dtype=dtype,
                name="head",
            )
        outputs = head(features)
        if tuple(outputs.shape) != (None, num_classes):
            raise ValueError(
                f"`head` must map features to {num_classes} logits, one per class. Received: "
                f"head={head}, with output of shape {tuple(outputs.shape)}"
            )
        return outputs


def image_input(input_shape: tuple[int, ...]) -> Tensor:
    """The input layer of images of shape `(height, width, channels)`."""
    try:
        shape = tuple(input_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            "`input_shape` must be (height, width, channels), channels last on every backend. "
            f"Received: input_shape={input_shape!r}"
        )
    return keras.Input(shape, name="image")


def blocks_per_stage(depth: int, other_layers: int) -> int:
    """Solves `depth = 6n + other_layers` for `n`, or raises `ValueError`.

    There are three stages of n blocks of two convolutions.
    """
    is_whole = isinstance(depth, numbers.Integral) and not isinstance(depth, bool)
    if not is_whole or depth <= other_layers or (depth - other_layers) % 6:
        examples = ", ".join(str(6 * n + other_layers) for n in (1, 2, 3, 4))
        raise ValueError(
            f"`depth` must be 6n + {other_layers} for a whole n of at least 1: {examples} and so "
            f"on. Received: depth={depth!r}"
        )
    return int(depth - other_layers) // 6
