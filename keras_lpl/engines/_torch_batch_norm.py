"""Batch normalisation on PyTorch whose gradient is differentiated once more at little cost.

PyTorch has one kernel for batch normalisation and one for its gradient, but a dozen operations over
all images for the gradient of that, which would take a third of a step that looks ahead. Of it a
look ahead needs the part that is linear in the incoming gradient alone, which is the kernel of the
gradient once more: `g -> gradient by x` is a symmetric matrix.
"""

from typing import Any

import torch

_KERNEL = torch.ops.aten.native_batch_norm_backward


class BatchNorm(torch.autograd.Function):
    """`torch.native_batch_norm` in training, `(y, mean, inverse_deviation)`.

    Its gradient can be differentiated by what comes in from above, and by nothing else.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
        """Normalises `(batch, channels, ...)`."""
        y, mean, inverse = torch.native_batch_norm(
            x, scale, offset, None, None, True, 0.0, epsilon
        )
        ctx.save_for_backward(x, scale, mean, inverse)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, upstream: Any, *_: Any) -> Any:
        """Gradients by `x`, `scale` and `offset`."""
        return (*_Gradient.apply(upstream, *ctx.saved_tensors, ctx.epsilon), None)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, upstream, x, scale, mean, inverse, epsilon):
        ctx.save_for_backward(x, scale, mean, inverse)
        ctx.epsilon = epsilon
        return _by_inputs(upstream, x, scale, mean, inverse, epsilon, [True, True, True])

    @staticmethod
    def backward(ctx, by_x, by_scale, by_offset):
        x, scale, mean, inverse = ctx.saved_tensors
        symmetric = _by_inputs(by_x, x, scale, mean, inverse, ctx.epsilon, [True, False, False])[0]
        # `gradient by scale` sums `upstream * normalised x`, and `gradient by offset` upstream.
        variance = inverse**-2 - ctx.epsilon
        by_scale, by_offset = by_scale.to(scale.dtype), by_offset.to(scale.dtype)
        linear = torch.native_batch_norm(
            x, by_scale, by_offset, mean, variance, False, 0.0, ctx.epsilon
        )[0]
        return symmetric.add_(linear), None, None, None, None, None


def _by_inputs(upstream, x, scale, mean, inverse, epsilon, mask):
    return _KERNEL(upstream, x, scale, None, None, mean, inverse, True, epsilon, mask)
