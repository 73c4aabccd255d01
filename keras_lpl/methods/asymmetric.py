"""`AsymmetricLoss` (ASL): binary losses that focus on positives and drop easy negatives.

    yes   -(1 - p)^gamma_positive log p
    no    -p_m^gamma_negative log(1 - p_m),   p_m = max(p - margin, 0)
    p     sigmoid(u)

Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor: "Asymmetric loss for multi-label
classification", ICCV 2021. Gradients flow through the focal factors.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.questions import questions
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def asymmetric_crossentropy(
    samples: Samples, gamma_negative: float, gamma_positive: float, margin: float
) -> Tensor:
    """Asymmetric loss of each row, summed over its questions.

    Args:
        samples: The batch.
        gamma_negative: Focus of the negatives, at least 0.
        gamma_positive: Focus of the positives, at least 0.
        margin: In [0, 1), what is taken off the probability of negatives.

    Returns:
        `(rows,)`.
    """
    logits, yes = questions(samples)
    log_yes, log_no = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    positive = ops.exp(gamma_positive * log_no) * log_yes
    if margin == 0:
        negative = ops.exp(gamma_negative * log_yes) * log_no
    else:
        shifted = ops.exp(log_yes) - margin
        is_above = shifted > 0
        # The branch not taken has a gradient too, which must be finite.
        shifted = ops.where(is_above, shifted, 1.0)
        negative = ops.power(shifted, gamma_negative) * ops.log(ops.exp(log_no) + margin)
        negative = ops.where(is_above, negative, 0.0)
    return -ops.sum(yes * positive + (1 - yes) * negative, axis=-1)


@register
class AsymmetricLoss(ClassificationLoss):
    """Asymmetric loss (ASL): for several labels of which few are positive.

    Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021. A binary focal loss
    with a focus of its own for negatives, and with a margin: negatives whose probability is below
    `margin` have no loss at all, and those that are far above, which may be missing labels, a
    gradient that fades.

    Made for `multi_label=True`, where the loss is the mean over the labels (the authors' is their
    sum: their learning rates are for that), and for one logit. A row of more than two classes is
    one yes-or-no question for each class, summed up; `argmax` predicts with it as ever, but the
    softmax of its logits is no probability.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        gamma_negative: Focus of the negatives, at least 0.
        gamma_positive: Focus of the positives, at least 0, smaller than that of the negatives.
        margin: In [0, 1), taken off the probability of negatives.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, or, when called, labels or logits that do not fit.

    Example: two labels at `p = 1/2`, of which the positive one weighs more.

    >>> loss = keras_lpl.AsymmetricLoss(multi_label=True)
    >>> for labels in ([[1, 1]], [[0, 0]]):
    ...     print(round(float(loss(np.array(labels), np.zeros((1, 2)))), 4))
    0.3466
    0.0245
    """

    def __init__(
        self,
        gamma_negative: float = 4.0,
        gamma_positive: float = 1.0,
        margin: float = 0.05,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "asymmetric_loss",
        dtype: str | None = None,
    ) -> None:
        self.gamma_negative = checks.number(gamma_negative, "gamma_negative", minimum=0)
        self.gamma_positive = checks.number(gamma_positive, "gamma_positive", minimum=0)
        self.margin = checks.number(margin, "margin", minimum=0, maximum=1)
        if self.margin == 1:
            raise ValueError(
                "`margin` must be below 1, or no negative has a loss. The paper takes 0.05. "
                f"Received: margin={margin!r}"
            )
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        return asymmetric_crossentropy(
            samples, self.gamma_negative, self.gamma_positive, self.margin
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "gamma_negative": self.gamma_negative,
            "gamma_positive": self.gamma_positive,
            "margin": self.margin,
            **super().get_config(),
        }
