"""`VSLoss`: cross-entropy of `u_c * (N_c / N_max)^gamma + tau * log pi_c`."""

from keras_lpl.losses.perturbed_crossentropy import PerturbationLoss
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.vector_scaling import VS


@register
class VSLoss(PerturbationLoss):
    """Vector scaling (VS): logits scaled and shifted by class frequency, for long tails.

    Kini et al., "Label-imbalanced and group-sensitive classification under overparameterization",
    NeurIPS 2021. `gamma=0` is logit adjustment, `tau=0` class-dependent temperatures (CDT).

    Predict with the raw logits. In a plain `keras.Model`, `val_loss` is that of the changed logits;
    in an `LPLModel` it is plain cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        gamma: Strength of the scale. 0.3 is the default of the authors' code; the larger the
            imbalance, the more it does.
        tau: Strength of the adjustment.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `gamma` or `tau`, or, when called, if
            the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.VSLoss(class_counts=[90, 10], gamma=0.5, tau=0.0)
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 3.0]]))), 4))
    0.3133
    """

    def __init__(
        self,
        class_counts,
        gamma=0.3,
        tau=1.0,
        reduction="sum_over_batch_size",
        name="vs_loss",
        dtype=None,
    ):
        perturbation = VS(class_counts, gamma, tau)
        super().__init__([perturbation], reduction=reduction, name=name, dtype=dtype)
