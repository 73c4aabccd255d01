"""`ISDALoss`: cross-entropy of `u_c + lambda / 2 * (w_c - w_y)' Sigma_y (w_c - w_y)`."""

from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.methods.isda.perturbation import ISDA


@register
class ISDALoss(PerturbationLoss):
    """Implicit semantic data augmentation (ISDA): as if features were moved within their class.

    Wang et al., "Implicit semantic data augmentation for deep networks", NeurIPS 2019. Trains in a
    `keras_lpl.LPLModel`, which keeps the covariance of each class's features over training and
    saves it; evaluation is plain cross-entropy.

    Args:
        strength: `lambda_0`, how far features are moved. The authors use 0.5 on CIFAR.
        schedule: `"linear"`: `lambda = strength * t / T` over the epochs of `fit`, so that the
            first, poor covariances count for little; None: constant.
        covariance: `"full"`: memory `num_classes * num_features**2`; `"diagonal"`:
            `num_classes * num_features`, for many classes or features.
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
    >>> model.compile("sgd", loss=keras_lpl.ISDALoss(covariance="diagonal"))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    def __init__(
        self,
        strength: float = 0.5,
        schedule: str | None = "linear",
        covariance: str = "full",
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "isda_loss",
        dtype: str | None = None,
    ) -> None:
        perturbation = ISDA(strength, schedule, covariance)
        super().__init__(
            [perturbation],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
