"""Keras's convolution and batch normalisation, computed by each framework's own fast kernels.

A residual network for small images spends its time moving memory. Keras 3.15 writes batch
normalisation as a dozen operations in float32, and on PyTorch copies each image tensor twice
around every convolution. These layers have the same variables and results, up to rounding.
`benchmarks/run.py --cases network` holds them against a network in plain PyTorch.
"""

from typing import Any

import keras
from keras import layers, ops

from keras_lpl import engines
from keras_lpl.core.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_lpl")
class BatchNormalization(layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of images, in one kernel where there is one.

    In training the statistics are computed in float32 and the rest in the layer's compute dtype.
    Arguments are those of the Keras layer. Channels come last.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Maps `(batch, height, width, channels)` to the same shape."""
        is_plain = (
            training and self.trainable and mask is None and self.scale and self.center
            # What Keras does besides is left to Keras.
            and not getattr(self, "renorm", False)  # not in every Keras 3
            and not self.synchronized
            and len(inputs.shape) == 4 and self.axis in (-1, 3)
        )  # fmt: skip
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        has_kernel = dtype in engines.BATCH_NORM_DTYPES
        if not is_plain or not has_kernel or self.variable_dtype != _statistics_dtype(dtype):
            return super().call(inputs, training=training, mask=mask)

        outputs, mean, variance = engines.batch_norm(
            inputs,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            self.epsilon,
        )
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return outputs


def _statistics_dtype(dtype):
    """The kernels want their scale and offset in this dtype."""
    return "float64" if dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="keras_lpl")
class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D` of images with channels last, without copies on PyTorch.

    PyTorch names the axes channels first and lays out the memory as it likes, so an image with
    channels last is only seen through other strides.
    """

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Convolves, as the base class asks for."""
        if not engines.COMPUTES_CHANNELS_FIRST or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        outputs = ops.conv(
            ops.transpose(inputs, (0, 3, 1, 2)),
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format="channels_first",
        )
        return ops.transpose(outputs, (0, 2, 3, 1))
