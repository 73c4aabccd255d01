"""`LogitAdjustmentLoss`: cross-entropy of `u + tau * log pi`."""

from keras_lpl.losses.perturbed_crossentropy import PerturbationLoss
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.logit_adjustment import LogitAdjustment


@register
class LogitAdjustmentLoss(PerturbationLoss):
    """Logit adjustment (LA): cross-entropy of `u + tau * log pi`, for long-tailed training sets.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. `tau=1` is the balanced
    softmax (Ren et al., NeurIPS 2020).

    Predict with the raw logits: the adjustment belongs to training. In a plain `keras.Model`,
    `val_loss` is adjusted too; in an `LPLModel` it is plain cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        tau: Strength; 0 is plain cross-entropy. The LPL paper searches 0.5 to 2.5.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `tau`, or, when called, if the number
            of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.LogitAdjustmentLoss(class_counts=[90, 10])
    >>> print(round(float(loss(np.array([0, 1]), np.zeros((2, 2)))), 4))
    1.204
    """

    def __init__(
        self,
        class_counts,
        tau=1.0,
        reduction="sum_over_batch_size",
        name="logit_adjustment_loss",
        dtype=None,
    ):
        adjustment = LogitAdjustment(class_counts, tau)
        super().__init__([adjustment], reduction=reduction, name=name, dtype=dtype)
