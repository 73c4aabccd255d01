"""Batch normalisation by TensorFlow's fused kernels."""

import tensorflow as tf

DTYPES = ("float32", "bfloat16", "float16")


def batch_norm(x, scale, offset, epsilon):
    """Normalises over all axes of `x` but the last.

    Args:
        x: Shape `(batch, height, width, channels)`, of one of `DTYPES`.
        scale: Float32, shape `(channels,)`.
        offset: Float32, shape `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        `(y, mean, variance)`: `y` like `x`, the other two float32 and without gradient.
    """
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x, scale, offset, epsilon=epsilon, is_training=True
    )[:3]
    # The kernel returns what estimates the population's variance; Keras keeps the sample's.
    size = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
    variance = variance * (size - 1) / size
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance)
