"""`FocalLoss`: cross-entropy that turns away from what is learnt already.

    loss_i = -sum_c y_ic (1 - p_ic)^gamma log p_ic,    p = softmax(u)

Lin, Goyal, Girshick, He, Dollár: "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4, with
the softmax in place of the sigmoid.
"""

import math

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.perturbations.base import register


def focal_crossentropy(labels, logits, gamma):
    """Focal loss of each sample, from logits.

    Args:
        labels: int32 `(batch,)`, or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`, float32 or float64.
        gamma: At least 0; 0 is cross-entropy.

    Returns:
        `(batch,)`.
    """
    if gamma == 0:
        return functional.softmax_crossentropy(labels, logits)
    log_p, log_rest = _log_probability_and_rest(logits)
    membership = functional.class_membership(labels, logits)
    return -ops.sum(membership * ops.exp(gamma * log_rest) * log_p, axis=-1)


def _log_probability_and_rest(logits):
    """`log p_c` and `log(1 - p_c)`, exact to the last digits however close `p_c` is to 0 or 1.

    Only the largest probability can be close to 1, where `1 - p` cancels. Its rest is summed up
    from the other classes.
    """
    is_largest = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="bool")
    # Picked by the same mask as the others: a maximum shares its gradient out among ties.
    largest = ops.sum(ops.where(is_largest, logits, 0.0), axis=-1, keepdims=True)
    # Not u - u for the largest: its two gradients of 1 would swallow the small one that is left.
    behind = ops.where(is_largest, 0.0, logits - largest)
    log_others = ops.logsumexp(ops.where(is_largest, -math.inf, behind), axis=-1, keepdims=True)
    log_total = ops.log1p(ops.exp(log_others))
    log_p = behind - log_total
    # At most 1/2, and 0 in place of the largest: the branch not taken has a gradient too.
    small = ops.where(is_largest, 0.0, ops.exp(log_p))
    return log_p, ops.where(is_largest, log_others - log_total, ops.log1p(-small))


@register
class FocalLoss(ClassificationLoss):
    """Focal loss: `-(1 - p_y)^gamma log p_y`, with the softmax probability `p_y` of the true class.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. The better a sample is
    classified, the less it counts. It knows nothing of class frequencies; see
    `keras_lpl.ClassBalancedLoss` for both.

    All of it is computed in log space: a sample that is wrong by any margin has the gradient it
    has under cross-entropy, and one that is right by any margin has a finite one, for `gamma`
    below 1 too. Soft labels give `-sum_c y_c (1 - p_c)^gamma log p_c`.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    the focal loss.

    Args:
        gamma: How fast samples lose weight as they are learnt, at least 0. 0 is cross-entropy; the
            paper's 2 is the default.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Call arguments:
        y_true: Class indices `(batch,)` or `(batch, 1)`, or one-hot or soft labels
            `(batch, num_classes)`.
        y_pred: Logits `(batch, num_classes)`, not probabilities.
        sample_weight: `(batch,)` or None.

    Raises:
        ValueError: for a negative `gamma`, or, when called, labels or logits that do not fit.

    Example: a sample at `p = 1/2` keeps a quarter of its cross-entropy.

    >>> loss = keras_lpl.FocalLoss(gamma=2.0)
    >>> print(round(float(loss(np.array([0]), np.zeros((1, 2)))), 4))
    0.1733
    """

    def __init__(self, gamma=2.0, reduction="sum_over_batch_size", name="focal_loss", dtype=None):
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def per_sample(self, labels, logits, context):
        return focal_crossentropy(labels, logits, self.gamma)

    def get_config(self):
        return {"gamma": self.gamma, **super().get_config()}
