"""ResNet for small images (He et al., 2016, section 4.2).

    x -> conv, norm, relu
      -> 3 stages of n blocks, 16, 32 and 64 filters, half the image each time
      -> mean over the image ("features") -> dense ("head")

    block(x) = relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))

Counting convolutions and the head, the depth is 6n + 2. Reference: "Deep Residual Learning for
Image Recognition", CVPR 2016.
"""

import keras
from keras import layers

from keras_lpl.core import checks
from keras_lpl.networks._blocks import (
    Parts,
    ZeroPaddedShortcut,
    blocks_per_stage,
    image_input,
)


def resnet(
    depth: int,
    input_shape: tuple[int, ...] = (32, 32, 3),
    num_classes: int = 10,
    *,
    shortcut: str = "pad",
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    head: keras.layers.Layer | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the ResNet for small images.

    ResNet-32 has 464,154 trainable parameters with 10 classes and 470,004 with 100.

    Args:
        depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        input_shape: `(height, width, channels)`, without the batch.
        num_classes: Number of logits.
        shortcut: Where a block changes the shape: `"pad"` subsamples and adds channels of zeros
            (He's option A, no parameters), `"project"` convolves by 1x1 (option B).
        dropout: Rate of the dropout inside each block, between its convolutions.
        weight_decay: Adds `weight_decay / 2 * sum(w**2)` over every trainable parameter to the
            model's losses, as the recipes in PyTorch do. The `weight_decay` of a Keras optimizer
            is something else (decoupled): use one of the two. Keras adds the penalty to the
            `loss` it reports, in training and in evaluation.
        head: A layer from features `(batch, 64)` to logits, in place of the dense layer. It
            brings its own regularizer and its own name.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images to logits `(batch, num_classes)`.

    Example:

    >>> model = keras_lpl.networks.resnet(8, input_shape=(32, 32, 3), num_classes=10)
    >>> model.output.shape
    (None, 10)
    """
    return build(
        depth,
        input_shape,
        num_classes,
        shortcut=shortcut,
        dropout=dropout,
        weight_decay=weight_decay,
        head=head,
        name=name or f"resnet{depth}",
    )


def build(
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    shortcut: str,
    dropout: float,
    weight_decay: float,
    head: keras.layers.Layer | None,
    name: str | None,
    se_ratio: int | None = None,
) -> keras.Model:
    """Builds a ResNet, with a squeeze-and-excitation gate in each block if `se_ratio` is given."""
    num_blocks = blocks_per_stage(depth, other_layers=2)
    num_classes = checks.integer(num_classes, "num_classes", minimum=1)
    checks.one_of(shortcut, "shortcut", ("pad", "project"))
    parts = Parts(checks.number(weight_decay, "weight_decay", minimum=0))

    def block(x, filters, strides, name):
        y = parts.conv(x, filters, f"{name}_conv1", strides=strides)
        y = parts.norm(y, f"{name}_norm1")
        y = layers.ReLU(name=f"{name}_relu1")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = parts.conv(y, filters, f"{name}_conv2")
        y = parts.norm(y, f"{name}_norm2")
        if se_ratio:
            y = parts.squeeze_excite(y, se_ratio, f"{name}_se")
        if strides > 1 or x.shape[-1] != filters:
            if shortcut == "pad":
                x = ZeroPaddedShortcut(filters, strides, name=f"{name}_shortcut")(x)
            else:
                x = parts.conv(x, filters, f"{name}_shortcut", kernel_size=1, strides=strides)
                x = parts.norm(x, f"{name}_shortcut_norm")
        y = layers.Add(name=f"{name}_add")([x, y])
        return layers.ReLU(name=f"{name}_relu2")(y)

    inputs = image_input(input_shape)
    x = parts.conv(inputs, 16, "stem_conv")
    x = parts.norm(x, "stem_norm")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate((16, 32, 64), start=1):
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            x = block(x, filters, strides, f"stage{stage}_block{index}")
    return keras.Model(inputs, parts.logits(x, num_classes, head), name=name)
