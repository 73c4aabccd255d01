"""Batch normalisation on TensorFlow whose gradient is differentiated once more at little cost.

A look ahead differentiates gradients by what comes in from above, and by nothing else. There the
gradient is linear, `g -> gradient by x` a symmetric matrix, and its own gradient the same kernel
again. TensorFlow's is a dozen operations over all images. Of a convolution it takes the two that
are needed.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_lpl.core.typing import Tensor

_are_linear: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "keras_lpl_linear_gradients", default=False
)


@contextlib.contextmanager
def linear_gradients() -> Iterator[None]:
    """Inside of it, `batch_norm` is the one of this file."""
    token = _are_linear.set(True)
    try:
        yield
    finally:
        _are_linear.reset(token)


def fused_batch_norm(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> tuple[Any, ...]:
    """`tf.compat.v1.nn.fused_batch_norm` in training, `(y, mean, variance)`.

    Args:
        x: `(batch, height, width, channels)`.
        scale: float32 `(channels,)`.
        offset: float32 `(channels,)`.
        epsilon: Added to the variance.
    """
    normalise = _linear_batch_norm if _are_linear.get() else tf.compat.v1.nn.fused_batch_norm
    return normalise(x, scale, offset, epsilon=epsilon)[:3]


def _linear_batch_norm(x, scale, offset, epsilon):
    @tf.custom_gradient
    def normalise(x, scale, offset):
        y, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=epsilon,
            is_training=True,
        )

        def by_inputs(upstream):
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=x,
                scale=scale,
                reserve_space_1=reserved[0],
                reserve_space_2=reserved[1],
                reserve_space_3=reserved[2],
                epsilon=epsilon,
                is_training=True,
            )[:3]

        @tf.custom_gradient
        def gradient(upstream):
            def of_gradient(by_x, by_scale, by_offset):
                # `gradient by scale` sums `upstream * normalised x`, that by offset upstream.
                size = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
                inverse = tf.math.rsqrt(variance * (size - 1) / size + epsilon)
                factor = by_scale * inverse
                linear = x * tf.cast(factor, x.dtype) + tf.cast(by_offset - mean * factor, x.dtype)
                return by_inputs(by_x)[0] + linear

            return by_inputs(upstream), of_gradient

        # Nothing flows through mean and variance, here as in the kernel.
        return (y, mean, variance), lambda upstream, *_: gradient(upstream)

    # Run eagerly, `custom_gradient` wants to know of variables.
    return normalise(*map(tf.convert_to_tensor, (x, scale, offset)))
