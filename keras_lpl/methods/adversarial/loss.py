"""`AdversarialFeatureLoss`: cross-entropy of features moved against the classifier."""

from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.methods.adversarial.perturbation import AdversarialFeatures


@register
class AdversarialFeatureLoss(PerturbationLoss):
    """Cross-entropy of the penultimate features, moved to where the loss is largest (Eq. 1 of LPL).

    `keras_lpl.perturbations.AdversarialFeatures` as a loss; see there. Trains in an `LPLModel`;
    evaluation is plain cross-entropy.

    Args:
        epsilon: Bound of the move, in units of the features.
        num_steps: Steps of the ascent: 1 in the maximum norm is FGSM, several are PGD.
        step_size: Length of a step; by default `epsilon` for one step, `2.5 * epsilon / num_steps`
            for several.
        norm: `"linf"` or `"l2"`.
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
    >>> model.compile("sgd", loss=keras_lpl.AdversarialFeatureLoss(epsilon=0.1))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 1,
        step_size: float | None = None,
        norm: str = "linf",
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "adversarial_feature_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            [AdversarialFeatures(epsilon, num_steps, step_size, norm)],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
