"""`AverageTopKLoss`: the mean of the largest losses of a batch, rather than of all.

    AT_k = 1/k * sum of the k largest of l_1 ... l_n,    l_i = -log softmax(u_i)[y_i]

Fan, Lyu, Ying, Hu: "Learning with average top-k loss", NeurIPS 2017. `k = n` is cross-entropy.
Here `k = share * n`, of the rows of a batch.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.numerics import divide_or_zero
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def part_in_top_share(losses: Tensor, weight: Tensor, share: float) -> Tensor:
    """How much of each row is among the largest losses: 1, 0, or between where the share ends.

    Args:
        losses: `(rows, columns)`. Each column is looked at by itself.
        weight: `(rows, columns)`, at least 0. The share is one of the total weight.
        share: In (0, 1].

    Returns:
        `(rows, columns)`, without a gradient. Of equal losses, earlier rows come first.
    """
    order = ops.argsort(-ops.stop_gradient(losses), axis=0)
    ordered = ops.take_along_axis(weight, order, axis=0)
    after = ops.cumsum(ordered, axis=0)
    left = share * after[-1:] - (after - ordered)
    part = ops.clip(divide_or_zero(left, ordered), 0.0, 1.0)
    return ops.stop_gradient(ops.take_along_axis(part, ops.argsort(order, axis=0), axis=0))


@register
class AverageTopKLoss(ClassificationLoss):
    """Average top-k loss: cross-entropy of the part of the batch that has the largest losses.

    Fan et al., "Learning with average top-k loss", NeurIPS 2017. Between the mean loss and the
    largest one: well-classified samples teach nothing, so that the many easy ones cannot drown the
    few hard ones. Wrong labels have large losses, too, and weigh more.

    The loss of a sample is `l / share` if it is among the largest `share` of its batch, and 0 if
    not; the mean is that of the largest. With `sample_weight` the share is one of the total weight.
    Several labels are each looked at by themselves.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        share: `k / n`, in (0, 1]; 1 is cross-entropy.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a `share` out of range, or, when called, labels or logits that do not fit.

    Example: of two samples, the one that is wrong counts twice.

    >>> loss = keras_lpl.AverageTopKLoss(share=0.5, reduction=None)
    >>> losses = loss(np.array([0, 0]), np.array([[0.0, 3.0], [3.0, 0.0]]))
    >>> print(keras.ops.convert_to_numpy(losses).round(3))
    [6.097 0.   ]
    """

    def __init__(
        self,
        share: float = 0.5,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "average_top_k_loss",
        dtype: str | None = None,
    ) -> None:
        self.share = checks.number(share, "share", minimum=0, maximum=1, exclusive=True)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        losses = crossentropy(samples)
        by_problem = (-1, samples.num_problems or 1)
        part = part_in_top_share(
            ops.reshape(losses, by_problem), ops.reshape(samples.weight, by_problem), self.share
        )
        return losses * ops.reshape(part, (-1,)) / self.share

    def get_config(self) -> dict[str, Any]:
        return {"share": self.share, **super().get_config()}
