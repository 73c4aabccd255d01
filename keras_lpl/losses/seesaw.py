"""`SeesawLoss`: cross-entropy of `u_j + log M_yj + log C_yj`."""

from keras_lpl.losses.perturbed_crossentropy import PerturbationLoss
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.seesaw import Seesaw


@register
class SeesawLoss(PerturbationLoss):
    """Seesaw: a frequent class pushes rare ones down less, unless it is mistaken for them.

    Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021.

    Without `class_counts` the training samples are counted as they come, which takes an `LPLModel`;
    the counts are saved with it.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; None to count during training.
        p: Exponent of the mitigation by counts.
        q: Exponent of the compensation by probabilities.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `p` or `q`, or, when called without
            `class_counts`, outside of `LPLModel`.

    Example: a sample of the frequent class pushes the rare one down less.

    >>> loss = keras_lpl.SeesawLoss(class_counts=[100, 1])
    >>> print(round(float(loss(np.array([0]), np.array([[0.0, 0.0]]))), 4))
    0.0248
    """

    def __init__(
        self,
        class_counts=None,
        p=0.8,
        q=2.0,
        reduction="sum_over_batch_size",
        name="seesaw_loss",
        dtype=None,
    ):
        perturbation = Seesaw(class_counts, p, q)
        super().__init__([perturbation], reduction=reduction, name=name, dtype=dtype)
