"""Wide residual network (Zagoruyko and Komodakis, 2016).

    x -> conv
      -> 3 stages of n blocks, 16k, 32k and 64k filters, half the image from the second on
      -> norm, relu -> mean over the image ("features") -> dense ("head")

    block(x) = conv(relu(norm(conv(relu(norm(x)))))) + x

Normalisation comes before the convolutions. Where a block changes the shape, the shortcut is a
1x1 convolution of its first activation. The depth is 6n + 4; WRN-28-10 is depth 28, width k = 10.
Reference: "Wide Residual Networks", BMVC 2016.
"""

import keras
from keras import layers

from keras_lpl.core import checks
from keras_lpl.networks._blocks import Parts, blocks_per_stage, image_input


def wide_resnet(
    depth: int,
    width: int,
    input_shape: tuple[int, ...] = (32, 32, 3),
    num_classes: int = 10,
    *,
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    head: keras.layers.Layer | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the wide residual network.

    WRN-16-8 has 10,961,370 trainable parameters with 10 classes, WRN-28-10 36,479,194.

    Args:
        depth: 6n + 4: 10, 16, 22, 28, 40.
        width: Factor on the filters 16, 32 and 64.
        input_shape: `(height, width, channels)`, without the batch.
        num_classes: Number of logits.
        dropout: Rate of the dropout inside each block, between its convolutions.
        weight_decay: L2 penalty on every trainable parameter, as for `resnet`.
        head: A layer from features `(batch, 64 * width)` to logits, in place of the dense layer.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images to logits `(batch, num_classes)`.

    Example:

    >>> model = keras_lpl.networks.wide_resnet(10, 2, num_classes=100)
    >>> model.get_layer("features").output.shape
    (None, 128)
    """
    num_blocks = blocks_per_stage(depth, other_layers=4)
    width = checks.integer(width, "width", minimum=1)
    num_classes = checks.integer(num_classes, "num_classes", minimum=1)
    parts = Parts(checks.number(weight_decay, "weight_decay", minimum=0))

    def block(x, filters, strides, name):
        y = parts.norm(x, f"{name}_norm1")
        y = layers.ReLU(name=f"{name}_relu1")(y)
        if strides > 1 or x.shape[-1] != filters:
            x = parts.conv(y, filters, f"{name}_shortcut", kernel_size=1, strides=strides)
        y = parts.conv(y, filters, f"{name}_conv1", strides=strides)
        y = parts.norm(y, f"{name}_norm2")
        y = layers.ReLU(name=f"{name}_relu2")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = parts.conv(y, filters, f"{name}_conv2")
        return layers.Add(name=f"{name}_add")([x, y])

    inputs = image_input(input_shape)
    x = parts.conv(inputs, 16, "stem_conv")
    for stage, filters in enumerate((16, 32, 64), start=1):
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            x = block(x, filters * width, strides, f"stage{stage}_block{index}")
    x = parts.norm(x, "final_norm")
    x = layers.ReLU(name="final_relu")(x)
    outputs = parts.logits(x, num_classes, head)
    return keras.Model(inputs, outputs, name=name or f"wide_resnet{depth}_{width}")
