"""The networks' inference in float64 NumPy, written from the papers, with a model's weights.

Images are padded by hand and convolved tap by tap, so that nothing here knows about Keras's
`padding="same"`.
"""

import numpy as np
from keras import ops


class Weights:
    """A model's weights by layer name, in float64."""

    def __init__(self, model):
        self.model = model

    def __call__(self, layer, weight):
        value = getattr(self.model.get_layer(layer), weight)
        return ops.convert_to_numpy(value).astype("float64")

    def has(self, layer):
        return any(each.name == layer for each in self.model.layers)


def relu(x):
    return np.maximum(x, 0)


def conv(x, kernel, strides):
    """A convolution with `size // 2` zeros on every side of the image."""
    size = kernel.shape[0]
    pad = size // 2
    batch, height, width, _ = x.shape
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = range(0, height, strides), range(0, width, strides)
    out = np.zeros((batch, len(rows), len(columns), kernel.shape[-1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            patch = x[:, row : row + size, column : column + size, :]
            out[:, i, j, :] = np.tensordot(patch, kernel, axes=3)
    return out


def norm(x, weights, layer):
    mean, variance = weights(layer, "moving_mean"), weights(layer, "moving_variance")
    return weights(layer, "gamma") * (x - mean) / np.sqrt(variance + 1e-5) + weights(layer, "beta")


def dense(x, weights, layer):
    return x @ weights(layer, "kernel") + weights(layer, "bias")


def shortcut_a(x, filters, strides):
    """He's option A: subsample, and new channels of zeros on both sides."""
    kept = x[:, ::strides, ::strides, :]
    out = np.zeros((*kept.shape[:-1], filters))
    start = (filters - x.shape[-1]) // 2
    out[..., start : start + x.shape[-1]] = kept
    return out


def basic_block(x, filters, strides, weights, name):
    y = conv(x, weights(f"{name}_conv1", "kernel"), strides)
    y = relu(norm(y, weights, f"{name}_norm1"))
    y = conv(y, weights(f"{name}_conv2", "kernel"), 1)
    y = norm(y, weights, f"{name}_norm2")
    if weights.has(f"{name}_se_reduce"):
        gate = relu(dense(y.mean(axis=(1, 2)), weights, f"{name}_se_reduce"))
        gate = 1 / (1 + np.exp(-dense(gate, weights, f"{name}_se_expand")))
        y = y * gate[:, None, None, :]
    if x.shape != y.shape and weights.has(f"{name}_shortcut_norm"):
        x = conv(x, weights(f"{name}_shortcut", "kernel"), strides)
        x = norm(x, weights, f"{name}_shortcut_norm")
    elif x.shape != y.shape:
        x = shortcut_a(x, filters, strides)
    return relu(y + x)


def wide_block(x, filters, strides, weights, name):
    first = relu(norm(x, weights, f"{name}_norm1"))
    y = conv(first, weights(f"{name}_conv1", "kernel"), strides)
    y = relu(norm(y, weights, f"{name}_norm2"))
    y = conv(y, weights(f"{name}_conv2", "kernel"), 1)
    if x.shape != y.shape:
        x = conv(first, weights(f"{name}_shortcut", "kernel"), strides)
    return y + x


def bottleneck(x, filters, strides, weights, name):
    def conv_norm(x, suffix, strides=1):
        y = conv(x, weights(f"{name}_conv{suffix}", "kernel"), strides)
        return norm(y, weights, f"{name}_norm{suffix}")

    y = relu(conv_norm(x, 1))
    y = relu(conv_norm(y, 2, strides))
    y = conv_norm(y, 3)
    if weights.has(f"{name}_shortcut"):
        x = conv(x, weights(f"{name}_shortcut", "kernel"), strides)
        x = norm(x, weights, f"{name}_shortcut_norm")
    return relu(y + x)


def bottleneck_logits(model, images, num_blocks):
    """The logits of the bottleneck ResNet."""
    weights = Weights(model)
    # Three zeros on each side, of which `conv` adds one.
    x = np.pad(images.astype("float64"), ((0, 0), (2, 2), (2, 2), (0, 0)))
    x = relu(norm(conv(x, weights("stem_conv", "kernel"), 1), weights, "stem_norm"))
    for stage in (1, 2, 3):
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            x = bottleneck(x, 8 * 2**stage, strides, weights, f"stage{stage}_block{index}")
    x = norm(x, weights, "final_norm")
    return dense(x.mean(axis=(1, 2)), weights, "head")


def logits(model, images, num_blocks, width=None):
    """The logits of a ResNet or SE-ResNet, or with `width` of a wide ResNet."""
    weights = Weights(model)
    x = conv(images.astype("float64"), weights("stem_conv", "kernel"), 1)
    if width is None:
        x = relu(norm(x, weights, "stem_norm"))
    for stage in (1, 2, 3):
        filters = 8 * 2**stage * (width or 1)
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            block = basic_block if width is None else wide_block
            x = block(x, filters, strides, weights, f"stage{stage}_block{index}")
    if width is not None:
        x = relu(norm(x, weights, "final_norm"))
    return dense(x.mean(axis=(1, 2)), weights, "head")
