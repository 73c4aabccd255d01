"""`CenterLoss`: cross-entropy, plus `strength / 2 * |x - c_y|^2` on the features.

Wen et al.: "A discriminative feature learning approach for deep face recognition", ECCV 2016,
Eq. 5.
"""

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.layers.class_statistics import ClassCenters
from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.perturbations.base import register


def squared_distance_to_centers(labels, logits, features, centers):
    """`|x_i - c_{y_i}|^2`, `(batch,)`; the mean over the classes of a soft label.

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`, for the number of classes.
        features: `(batch, num_features)`.
        centers: `(num_classes, num_features)`.
    """
    if len(labels.shape) == 1:
        own = ops.take(centers, ops.maximum(labels, 0), axis=0)
        return ops.sum(ops.square(features - own), axis=-1)
    # sum_c y_c |x - c|^2 = |x - m|^2 + sum_c y_c |c|^2 - |m|^2 with m = sum_c y_c c
    member = ops.cast(functional.class_membership(labels, logits), features.dtype)
    mean = ops.matmul(member, centers)
    spread = ops.matmul(member, ops.sum(ops.square(centers), axis=-1)[:, None])[:, 0]
    around = spread - ops.sum(ops.square(mean), axis=-1)
    return ops.sum(ops.square(features - mean), axis=-1) + around


@register
class CenterLoss(ClassificationLoss):
    """Center loss: cross-entropy that also pulls the features of a class together.

    Wen et al., ECCV 2016. Trains in a `keras_lpl.LPLModel`, which keeps a center for each class,
    moves it after each batch and saves it; evaluation is plain cross-entropy.

    Args:
        strength: `lambda`, the weight of the pull. The authors use 0.003 with features in the
            hundreds; it depends on their scale.
        center_rate: `alpha`, how far a center follows its class's features in one step, 0 to 1.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.CenterLoss())
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    needs = ("features", "statistics")

    def __init__(
        self,
        strength=0.003,
        center_rate=0.5,
        reduction="sum_over_batch_size",
        name="center_loss",
        dtype=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.strength = checks.number(strength, "strength", minimum=0)
        self.center_rate = checks.number(center_rate, "center_rate", minimum=0, maximum=1)

    def per_sample(self, labels, logits, context):
        centers = ops.convert_to_tensor(context.statistics["centers"].centers)
        distance = squared_distance_to_centers(labels, logits, context.features, centers)
        crossentropy = functional.softmax_crossentropy(labels, logits)
        return crossentropy + 0.5 * self.strength * ops.cast(distance, logits.dtype)

    def create_statistics(self, num_classes, num_features):
        return {"centers": ClassCenters(num_classes, num_features, rate=self.center_rate)}

    def get_config(self):
        config = {"strength": self.strength, "center_rate": self.center_rate}
        return {**config, **super().get_config()}
