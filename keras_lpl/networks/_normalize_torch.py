"""Batch normalisation by PyTorch's own kernels."""

import torch

DTYPES = ("float32", "bfloat16", "float16", "float64")


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
    y, mean, inverse_deviation = torch.native_batch_norm(
        x.permute(0, 3, 1, 2), scale, offset, None, None, True, 0.0, epsilon
    )
    with torch.no_grad():
        variance = torch.clamp(inverse_deviation**-2 - epsilon, min=0.0)
    return y.permute(0, 2, 3, 1), mean.detach(), variance
