"""The bottleneck ResNet of the released LPL code, which calls it ResNet-32.

    x -> 3 pixels of zeros on each side -> conv without padding, norm, relu
      -> 3 stages of n blocks, 16, 32 and 64 filters, half the image from the second on
      -> norm -> mean over the image ("features") -> dense ("head")

    block(x) = relu(norm(conv1x1(relu(norm(conv3x3(relu(norm(conv1x1(x)))))))) + shortcut(x))

All three convolutions of a block have the same number of filters. The shortcut of a stage's first
block is a 1x1 convolution with its norm. The long-tail numbers of "Logit Perturbation" (AAAI 2022)
are this network's with n = 5, and not those of He et al.'s ResNet-32, which is half as large again.
"""

import keras
from keras import layers

from keras_lpl.core import checks
from keras_lpl.networks._blocks import Parts, image_input


def bottleneck_resnet(
    num_blocks: int = 5,
    input_shape: tuple[int, ...] = (32, 32, 3),
    num_classes: int = 10,
    *,
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    head: keras.layers.Layer | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the bottleneck ResNet of the released LPL code.

    With 5 blocks it has 300,762 trainable parameters with 10 classes and 306,612 with 100.

    Args:
        num_blocks: Blocks per stage; 5 is what the authors call ResNet-32.
        input_shape: `(height, width, channels)`, without the batch.
        num_classes: Number of logits.
        dropout: Rate of the dropout inside each block, before its 3x3 convolution.
        weight_decay: L2 penalty on every trainable parameter, as for `resnet`.
        head: A layer from features `(batch, 64)` to logits, in place of the dense layer.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images to logits `(batch, num_classes)`.

    Example:

    >>> model = keras_lpl.networks.bottleneck_resnet(num_blocks=1, num_classes=100)
    >>> model.output.shape
    (None, 100)
    """
    num_blocks = checks.integer(num_blocks, "num_blocks", minimum=1)
    num_classes = checks.integer(num_classes, "num_classes", minimum=1)
    parts = Parts(checks.number(weight_decay, "weight_decay", minimum=0))

    def conv_norm(x, filters, name, suffix="", **kwargs):
        x = parts.conv(x, filters, f"{name}_conv{suffix}", **kwargs)
        return parts.norm(x, f"{name}_norm{suffix}")

    def block(x, filters, strides, name, project):
        y = conv_norm(x, filters, name, 1, kernel_size=1)
        y = layers.ReLU(name=f"{name}_relu1")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = conv_norm(y, filters, name, 2, strides=strides)
        y = layers.ReLU(name=f"{name}_relu2")(y)
        y = conv_norm(y, filters, name, 3, kernel_size=1)
        if project:
            x = parts.conv(x, filters, f"{name}_shortcut", kernel_size=1, strides=strides)
            x = parts.norm(x, f"{name}_shortcut_norm")
        return layers.ReLU(name=f"{name}_relu3")(layers.Add(name=f"{name}_add")([x, y]))

    inputs = image_input(input_shape)
    # Two pixels here and one in the convolution: three, and the image grows by four.
    x = layers.ZeroPadding2D(2, data_format="channels_last", name="stem_padding")(inputs)
    x = parts.conv(x, 16, "stem_conv")
    x = layers.ReLU(name="stem_relu")(parts.norm(x, "stem_norm"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            x = block(x, filters, strides, f"stage{stage}_block{index}", project=index == 1)
    x = parts.norm(x, "final_norm")
    logits = parts.logits(x, num_classes, head)
    return keras.Model(inputs, logits, name=name or f"bottleneck_resnet{9 * num_blocks + 2}")
