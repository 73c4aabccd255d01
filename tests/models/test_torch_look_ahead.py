"""Gradients of gradients of PyTorch layers, as the look ahead takes them, against PyTorch's own."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "torch":
    pytest.skip("of PyTorch alone", allow_module_level=True)

import torch

from keras_lpl.engines._torch_look_ahead import BatchNorm, LinearGradients

F = torch.nn.functional


def norm(x, scale, offset):
    return torch.native_batch_norm(x, scale, offset, None, None, True, 0.0, 1e-3)[0]


def convolution(**keywords):
    return lambda x, *parameters: F.conv2d(x, *parameters, **keywords)


IMAGES = (2, 3, 6, 7)
CASES = {
    "norm": (norm, [(3, 4, 5, 6), (4,), (4,)]),
    "conv1d": (F.conv1d, [(2, 3, 7), (4, 3, 3)]),
    "strided": (convolution(stride=2, padding=1), [IMAGES, (4, 3, 3, 3)]),
    "bias": (convolution(padding=[0, 1]), [IMAGES, (4, 3, 1, 3), (4,)]),
    "by depth": (convolution(groups=3), [IMAGES, (6, 1, 3, 3)]),
    "dilated": (convolution(dilation=2), [IMAGES, (4, 3, 2, 3)]),
    "padding by name": (convolution(padding="same"), [IMAGES, (4, 3, 3, 3)]),
    "conv3d": (F.conv3d, [(2, 2, 4, 4, 4), (3, 2, 2, 2, 2)]),
}


@pytest.mark.parametrize("first", [True, False], ids=["first layer", "later layer"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_gradients_are_pytorchs(case, first):
    layer, shapes = CASES[case]
    rng = np.random.default_rng(0)
    inputs = [torch.tensor(rng.normal(size=shape)) for shape in shapes]
    for tensor in inputs[1 if first else 0 :]:
        tensor.requires_grad_(True)
    differentiated = [tensor for tensor in inputs if tensor.requires_grad]
    directions = [torch.tensor(rng.normal(size=tensor.shape)) for tensor in differentiated]

    def gradients():
        y = layer(*inputs)
        upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        upstream.requires_grad_(True)
        once = torch.autograd.grad(y, differentiated, upstream, create_graph=True)
        return [y, *once, *torch.autograd.grad(once, upstream, directions)]

    expected = gradients()
    with LinearGradients():
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_layers_of_a_look_ahead_are_these():
    x, scale = torch.ones(2, 3, 4, 4, requires_grad=True), torch.ones(3)
    with LinearGradients():
        convolved = F.conv2d(x, torch.ones(3, 3, 1, 1))
        normal = norm(x, scale, scale)
    assert "Convolution" in type(convolved.grad_fn).__name__
    assert type(normal.grad_fn).__name__ == f"{BatchNorm.__name__}Backward"
    assert "Native" in type(norm(x, scale, scale).grad_fn).__name__
