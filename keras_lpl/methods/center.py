"""`CenterLoss`: cross-entropy, plus `strength / 2 * |x - c_y|^2` on the features.

Wen et al.: "A discriminative feature learning approach for deep face recognition", ECCV 2016,
Eq. 5.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import RunningStatistic
from keras_lpl.core.typing import Tensor


class ClassCenters(RunningStatistic):
    """Center of the features of each class, which follows them (Wen et al., Eq. 4).

    `c_j <- c_j - rate * sum_i (c_j - x_i) / (1 + n_j)`, over the `n_j` samples of class `j` in the
    batch. The loss sees the centers as the previous batch has left them.

    Args:
        num_classes: Number of classes.
        num_features: Number of features.
        rate: `alpha`, from 0 (centers stay) to 1 (they follow each batch).

    Example:

    >>> centers = keras_lpl.layers.ClassCenters(num_classes=2, num_features=1, rate=0.5)
    >>> labels, features = np.array([0, 0, 0]), np.array([[4.0], [4.0], [4.0]])
    >>> centers.update(keras_lpl.read_output(labels, np.zeros((3, 2)), features=features))
    >>> print(keras.ops.convert_to_numpy(centers.centers))
    [[1.5]
     [0. ]]
    """

    updates_after_loss = True

    def __init__(
        self, num_classes: int, num_features: int, rate: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rate = checks.number(rate, "rate", minimum=0, maximum=1)
        self.centers = self.add_statistic("centers", (num_classes, num_features))

    def update(self, samples: Samples) -> None:
        total = samples.sum_by_class(ops.cast(samples.features, "float32"))
        count = ops.cast(samples.weight_by_class(), "float32")[:, None]
        centers = ops.convert_to_tensor(self.centers)
        self.centers.assign(centers - self.rate * (count * centers - total) / (1 + count))

    def take_settings(self, other: "ClassCenters") -> None:
        self.rate = other.rate


def squared_distance_to_centers(samples: Samples, centers: Tensor) -> Tensor:
    """`|x_i - c_{y_i}|^2` of each row, `(rows,)`; the mean over the classes of a soft label.

    Args:
        samples: The batch, with features.
        centers: `(classes, features)`.
    """
    features = samples.features
    own = samples.of_own_class(centers)
    distance = ops.sum(ops.square(features - own), axis=-1)
    if not samples.has_soft_labels:
        return distance
    # sum_c y_c |x - c|^2 = |x - m|^2 + sum_c y_c |c|^2 - |m|^2 with m = sum_c y_c c
    squares = samples.of_own_class(ops.sum(ops.square(centers), axis=-1))
    return distance + squares - ops.sum(ops.square(own), axis=-1)


@register
class CenterLoss(ClassificationLoss):
    """Center loss: cross-entropy that also pulls the features of a class together.

    Wen et al., ECCV 2016. Trains in a `keras_lpl.LPLModel`, which keeps a center for each class,
    moves it after each batch and saves it; evaluation is plain cross-entropy.

    Args:
        strength: `lambda`, the weight of the pull. The authors use 0.003 with features in the
            hundreds; it depends on their scale.
        center_rate: `alpha`, how far a center follows its class's features in one step, 0 to 1.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
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
    supports_multi_label = False

    def __init__(
        self,
        strength: float = 0.003,
        center_rate: float = 0.5,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "center_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.strength = checks.number(strength, "strength", minimum=0)
        self.center_rate = checks.number(center_rate, "center_rate", minimum=0, maximum=1)

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        centers = ops.convert_to_tensor(context.statistics["centers"].centers)
        distance = squared_distance_to_centers(samples, centers)
        return crossentropy(samples) + 0.5 * self.strength * distance

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        assert num_features is not None, "`needs` has the features"
        return {"centers": ClassCenters(shape_by_class[0], num_features, rate=self.center_rate)}

    def get_config(self) -> dict[str, Any]:
        config = {"strength": self.strength, "center_rate": self.center_rate}
        return {**config, **super().get_config()}
