"""`LDAMLoss`: cross-entropy of `scale * (u - m_y * onehot(y))`."""

from keras_lpl.losses.perturbed_crossentropy import PerturbationLoss
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.ldam import LDAM


@register
class LDAMLoss(PerturbationLoss):
    """Label-distribution-aware margins (LDAM): rare classes must win by a larger margin.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS
    2019. The margin of class `c` is `max_margin * (N_min / N_c)^(1/4)`.

    The model must end in `keras_lpl.layers.CosineDense(num_classes)`; in an `LPLModel` that does
    not, it warns. With `keras_lpl.callbacks.DeferredReweighting` it is LDAM-DRW.

    Predict with the cosines themselves. In an `LPLModel`, `val_loss` is the cross-entropy of the
    bare cosines, which is never small; watch accuracy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        max_margin: The margin of the rarest class, in units of the cosine.
        scale: Factor on the cosines after the margin.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `max_margin`, a `scale` that is not
            positive, or, when called, if the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.LDAMLoss(class_counts=[160, 10], scale=10.0)
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 0.5]]))), 4))
    0.6931
    """

    def __init__(
        self,
        class_counts,
        max_margin=0.5,
        scale=30.0,
        reduction="sum_over_batch_size",
        name="ldam_loss",
        dtype=None,
    ):
        perturbation = LDAM(class_counts, max_margin, scale)
        super().__init__([perturbation], reduction=reduction, name=name, dtype=dtype)
