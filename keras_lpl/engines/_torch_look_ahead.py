"""Layers on PyTorch whose gradients are differentiated once more at little cost.

A look ahead differentiates gradients by what comes in from above, and by nothing else. There the
gradient of a layer is linear, and its own gradient is no dearer than the layer's: two convolutions
for one, and the very kernel of the gradient for batch normalisation, `g -> gradient by x` being a
symmetric matrix. PyTorch computes all that could be asked for besides, four convolutions and a
dozen operations over all images.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_GRADIENT_OF_NORM = torch.ops.aten.native_batch_norm_backward
_GRADIENT_OF_CONVOLUTION = torch.ops.aten.convolution_backward


class LinearGradients(TorchFunctionMode):
    """Inside of it, convolutions and batch normalisations are those of this file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return _convolution(func, *args, **kwargs)
        # Of images in training, without averages to move: what `batch_norm` of the engine calls.
        if func is torch.native_batch_norm and args[3:6] == (None, None, True):
            x, scale, offset, *_, epsilon = args
            return BatchNorm.apply(x, scale, offset, epsilon)
        return func(*args, **kwargs)


def _convolution(func, x, kernel, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if isinstance(padding, str) or x.dim() != kernel.dim():
        return func(x, kernel, bias, stride, padding, dilation, groups)
    rank = _CONVOLUTIONS[func]
    settings = [_as_list(value, rank) for value in (stride, padding, dilation)]
    y = Convolution.apply(x, kernel, settings, groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _as_list(value, rank):
    return [value] * rank if isinstance(value, int) else list(value)


class Convolution(torch.autograd.Function):
    """Convolution whose gradient can be differentiated by what comes in from above."""

    @staticmethod
    def forward(ctx: Any, x: Any, kernel: Any, settings: Any, groups: int) -> Any:
        """Convolves `(batch, channels, ...)`; the settings are stride, padding and dilation."""
        ctx.save_for_backward(x, kernel)
        ctx.arguments = (settings, groups)
        return _convolve(x, kernel, settings, groups)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        """Gradients by `x` and the kernel."""
        mask = list(ctx.needs_input_grad[:2])
        gradients = _ConvolutionGradient.apply(upstream, *ctx.saved_tensors, *ctx.arguments, mask)
        return (*gradients, None, None)


class _ConvolutionGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, upstream, x, kernel, settings, groups, mask):
        ctx.save_for_backward(x, kernel)
        ctx.arguments = (settings, groups)
        stride, padding, dilation = settings
        zeros = [0] * len(stride)
        return _GRADIENT_OF_CONVOLUTION(
            upstream,
            x,
            kernel,
            None,
            stride,
            padding,
            dilation,
            False,
            zeros,
            groups,
            [*mask, False],
        )[:2]

    @staticmethod
    def backward(ctx, by_x, by_kernel):
        x, kernel = ctx.saved_tensors
        parts = []
        if by_x is not None:
            parts.append(_convolve(by_x, kernel, *ctx.arguments))
        if by_kernel is not None:
            parts.append(_convolve(x, by_kernel, *ctx.arguments))
        return (sum(parts[1:], parts[0]), *(None,) * 5)


def _convolve(x, kernel, settings, groups):
    stride, padding, dilation = settings
    zeros = [0] * len(stride)
    return torch.convolution(x, kernel, None, stride, padding, dilation, False, zeros, groups)


class BatchNorm(torch.autograd.Function):
    """`torch.native_batch_norm` in training, `(y, mean, inverse_deviation)`.

    Its gradient can be differentiated by what comes in from above.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
        """Normalises `(batch, channels, ...)`."""
        y, mean, inverse = torch.native_batch_norm(x, scale, offset, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, scale, mean, inverse)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, upstream: Any, *_: Any) -> Any:
        """Gradients by `x`, `scale` and `offset`."""
        return (*_NormGradient.apply(upstream, *ctx.saved_tensors, ctx.epsilon), None)


class _NormGradient(torch.autograd.Function):
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
    return _GRADIENT_OF_NORM(upstream, x, scale, None, None, mean, inverse, True, epsilon, mask)
