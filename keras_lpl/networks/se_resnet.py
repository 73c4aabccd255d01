"""SE-ResNet for small images: a ResNet whose blocks weigh their channels (Hu et al., 2018).

    block(x) = relu(gate(y) * y + shortcut(x)),  y = norm(conv(relu(norm(conv(x)))))
    gate(y)  = sigmoid(dense(relu(dense(mean of y over the image))))

Reference: "Squeeze-and-Excitation Networks", CVPR 2018.
"""

import keras

from keras_lpl.core import checks
from keras_lpl.networks.resnet import build


def se_resnet(
    depth: int,
    input_shape: tuple[int, ...] = (32, 32, 3),
    num_classes: int = 10,
    *,
    se_ratio: int = 16,
    shortcut: str = "pad",
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    head: str | keras.layers.Layer | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the SE-ResNet for small images.

    Args:
        depth: 6n + 2, as for `resnet`; the gates are not counted.
        input_shape: `(height, width, channels)`, without the batch.
        num_classes: Number of logits.
        se_ratio: The gate's hidden layer has `channels // se_ratio` units, at least one.
        shortcut: `"pad"` or `"project"`, as for `resnet`.
        dropout: Rate of the dropout inside each block, between its convolutions.
        weight_decay: L2 penalty on every trainable parameter, as for `resnet`.
        head: A layer from features `(batch, 64)` to logits, in place of the dense layer.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images to logits `(batch, num_classes)`.

    Example:

    >>> model = keras_lpl.networks.se_resnet(8, num_classes=100)
    >>> model.output.shape
    (None, 100)
    """
    return build(
        depth,
        input_shape,
        num_classes,
        shortcut=shortcut,
        dropout=dropout,
        weight_decay=weight_decay,
        head=head,
        name=name or f"se_resnet{depth}",
        se_ratio=checks.integer(se_ratio, "se_ratio", minimum=1),
    )
