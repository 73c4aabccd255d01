"""`LabelOverSmoothingLoss` (LOS): label smoothing until the labels are all but uniform.

    loss_i = -sum_c ((1 - smoothing) y_ic + smoothing / C) log p_ic,    smoothing close to 1

Sun, Lu, Li, Xie, Li, Yang, Zhang, Yan: "Rethinking classifier re-training in long-tailed
recognition: Label over-smooth can balance", ICLR 2025. For the classifier alone, on features that
are learnt already.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


@register
class LabelOverSmoothingLoss(ClassificationLoss):
    """Label over-smoothing (LOS): to re-train the classifier of a long-tailed model.

    Sun et al., "Rethinking classifier re-training in long-tailed recognition: Label over-smooth can
    balance", ICLR 2025. The true class gets a little more than `1 / classes`, the others a little
    less: logits stay small, and about as large for rare classes as for frequent ones. Needs no
    class counts.

    First train the model as ever; then freeze all but the last layer, and train that with this
    loss. From the first step on, features would hardly be learnt.

    In an `LPLModel`, evaluation is plain cross-entropy, of logits that say little of how sure the
    model is; watch accuracy. In any other `keras.Model`, `val_loss` is this loss.

    Args:
        smoothing: In [0, 1). 0 is cross-entropy; the authors' 0.98 for CIFAR-100-LT is the default.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a `smoothing` out of range, or, when called, labels or logits that do not
            fit.

    Example: of ten classes, the true one gets 0.118 and each other one 0.098.

    >>> loss = keras_lpl.LabelOverSmoothingLoss()
    >>> print(round(float(loss(np.array([0]), np.log([[0.118] + 9 * [0.098]]))), 4))
    2.3009
    """

    def __init__(
        self,
        smoothing: float = 0.98,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "label_over_smoothing_loss",
        dtype: str | None = None,
    ) -> None:
        self.smoothing = checks.number(smoothing, "smoothing", minimum=0, maximum=1)
        if self.smoothing == 1:
            raise ValueError(
                "`smoothing` must be below 1, or labels do not matter. The paper takes 0.98. "
                f"Received: smoothing={smoothing!r}"
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
        log_p = ops.log_softmax(samples.logits, axis=-1)
        given = ops.sum(samples.membership * log_p, axis=-1)
        uniform = ops.mean(log_p, axis=-1)
        return -((1 - self.smoothing) * given + self.smoothing * uniform)

    def get_config(self) -> dict[str, Any]:
        return {"smoothing": self.smoothing, **super().get_config()}
