"""`FocalLoss`: cross-entropy that down-weights well-classified samples.

    loss_i = -sum_c y_ic (1 - p_ic)^gamma log p_ic,    p = softmax(u)

Lin, Goyal, Girshick, He, Dollár: "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4, with
the softmax in place of the sigmoid.
"""

import math
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def focal_crossentropy(samples: Samples, gamma: float) -> Tensor:
    """Focal loss of each row.

    Args:
        samples: The batch.
        gamma: At least 0; 0 is cross-entropy.

    Returns:
        `(rows,)`.
    """
    if gamma == 0:
        return crossentropy(samples)
    log_p, log_rest = _log_probability_and_rest(samples.logits)
    return -ops.sum(samples.membership * ops.exp(gamma * log_rest) * log_p, axis=-1)


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
    classified, the less it counts. It knows nothing of class frequencies. There is no `alpha`, a
    weight of the class: pass `class_weight` to `fit`, or take
    `keras_lpl.ClassBalancedLoss(counts, base="focal")`, for both.

    All of it is computed in log space: a sample that is wrong by any margin has the gradient it
    has under cross-entropy, and one that is right by any margin has a finite one, for `gamma`
    below 1 too. Soft labels give `-sum_c y_c (1 - p_c)^gamma log p_c`.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    the focal loss.

    Args:
        gamma: How fast samples lose weight as they are learnt, at least 0. 0 is cross-entropy; the
            paper's 2 is the default.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a negative `gamma`, or, when called, labels or logits that do not fit.

    Example: a sample at `p = 1/2` keeps a quarter of its cross-entropy.

    >>> loss = keras_lpl.FocalLoss(gamma=2.0)
    >>> print(round(float(loss(np.array([0]), np.zeros((1, 2)))), 4))
    0.1733
    """

    def __init__(
        self,
        gamma: float = 2.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "focal_loss",
        dtype: str | None = None,
    ) -> None:
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        return focal_crossentropy(samples, self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {"gamma": self.gamma, **super().get_config()}
