"""`BootstrappingLoss`: trains on a mixture of the labels and the model's own predictions.

    loss_i = -sum_c (beta y_ic + (1 - beta) p_ic) log p_ic          soft
    loss_i = -sum_c (beta y_ic + (1 - beta) z_ic) log p_ic          hard, z = one-hot argmax of p

Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich: "Training Deep Neural Networks on Noisy Labels with
Bootstrapping", ICLR 2015 workshop.
"""

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.perturbations.base import register

DEFAULT_BETA = {"soft": 0.95, "hard": 0.8}


def bootstrapped_crossentropy(labels, logits, beta, hard=False):
    """Bootstrapped cross-entropy of each sample, from logits.

    Args:
        labels: int32 `(batch,)`, or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`, float32 or float64.
        beta: Weight of the labels; 1 is cross-entropy.
        hard: Mix in the one-hot prediction, rather than the probabilities.

    Returns:
        `(batch,)`.
    """
    log_p = ops.log_softmax(logits, axis=-1)
    given = ops.sum(functional.class_membership(labels, logits) * log_p, axis=-1)
    if hard:
        own = ops.max(log_p, axis=-1)  # sum_c z_c log p_c
    else:
        # log p is finite where p underflows, so the product is 0.
        own = ops.sum(ops.exp(log_p) * log_p, axis=-1)
    return -(beta * given + (1 - beta) * own)


@register
class BootstrappingLoss(ClassificationLoss):
    """Bootstrapping: cross-entropy to `beta` parts label and `1 - beta` parts own prediction.

    Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015
    workshop. Where the model disagrees with a label, its own opinion softens the error.

    The soft form mixes in the probabilities; as in the paper the gradient flows through them, which
    makes it cross-entropy plus an entropy term that rewards being sure. The hard form mixes in the
    one-hot most probable class, a constant.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        beta: Weight of the labels, above 0 and at most 1; 1 is cross-entropy. None takes the
            paper's 0.95 for the soft form and 0.8 for the hard one.
        hard: Mix in the most probable class, rather than the probabilities.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Call arguments:
        y_true: Class indices `(batch,)` or `(batch, 1)`, or one-hot or soft labels
            `(batch, num_classes)`.
        y_pred: Logits `(batch, num_classes)`, not probabilities.
        sample_weight: `(batch,)` or None.

    Raises:
        ValueError: for a `beta` out of range, or, when called, labels or logits that do not fit.

    Example: the model disagrees with the label, and is charged a fifth less for it.

    >>> loss = keras_lpl.BootstrappingLoss(hard=True)
    >>> print(round(float(loss(np.array([0]), np.array([[0.0, 20.0]]))), 4))
    16.0
    """

    def __init__(
        self,
        beta=None,
        hard=False,
        reduction="sum_over_batch_size",
        name="bootstrapping_loss",
        dtype=None,
    ):
        self.hard = bool(hard)
        beta = DEFAULT_BETA["hard" if self.hard else "soft"] if beta is None else beta
        self.beta = checks.number(beta, "beta", minimum=0, maximum=1, exclusive=True)
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def per_sample(self, labels, logits, context):
        return bootstrapped_crossentropy(labels, logits, self.beta, self.hard)

    def get_config(self):
        return {"beta": self.beta, "hard": self.hard, **super().get_config()}
