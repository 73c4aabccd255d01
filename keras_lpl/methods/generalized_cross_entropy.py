"""`GeneralizedCrossEntropyLoss`: between cross-entropy and mean absolute error, for noisy labels.

    loss_i = (1 - p_y^q) / q                                        L_q,          0 < q <= 1
    loss_i = (1 - k^q) / q  where p_y <= k,  else as above          truncated L_q

Zhang, Sabuncu: "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
Labels", NeurIPS 2018, Secs. 3.2 and 3.3. `q -> 0` is cross-entropy, `q = 1` is half the mean
absolute error.
"""

import math
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

# Epoch 40 of 120, where the paper starts to prune on CIFAR-10.
DEFAULT_START = 1 / 3


def generalized_crossentropy(
    samples: Samples, q: float, truncate: float | None = None, is_on: Tensor = True
) -> Tensor:
    """Generalized cross-entropy of each row.

    Args:
        samples: The batch.
        q: In [0, 1]; 0 is cross-entropy.
        truncate: `k` in (0, 1), or None for the plain form.
        is_on: False to truncate nothing yet; a bool, or a boolean scalar tensor.

    Returns:
        `(rows,)`.
    """
    log_p = ops.log_softmax(samples.logits, axis=-1)
    if truncate is not None:
        log_k = math.log(truncate)
        given_up = ops.logical_and(log_p <= log_k, is_on)
        log_p = ops.where(given_up, log_k, log_p)
    # expm1, as 1 - p^q cancels where q or log p is small.
    loss = -log_p if q == 0 else -ops.expm1(q * log_p) / q
    return ops.sum(samples.membership * loss, axis=-1)


@register
class GeneralizedCrossEntropyLoss(ClassificationLoss):
    """Generalized cross-entropy (GCE, L_q): `(1 - p_y^q) / q`, for training sets with wrong labels.

    Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
    Labels", NeurIPS 2018. A sample's gradient is that of cross-entropy times `p_y^q`: what the
    model thinks impossible, it hardly learns. Soft labels give `sum_c y_c (1 - p_c^q) / q`.

    With `truncate=k`, samples of `p_y <= k` are given up: their loss is the constant
    `(1 - k^q) / q` and they have no gradient. As an untrained model is below `k` everywhere and
    would learn nothing, truncation starts after the share `start` of training. For that the loss
    reads the training's progress, which an `LPLModel` has; `start=0` truncates from the first step,
    in any Keras model, and is for models that are trained already.

    The paper fixes the set of samples that are given up every 10 epochs, by a pass over the
    training set. Here it is decided anew for each sample each time it is seen: the same objective,
    its two alternating minimisations taken in every step instead of every 10 epochs.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        q: In [0, 1]. 0 is cross-entropy, 1 is `1 - p_y`: the larger, the more robust and the harder
            to train. The paper's 0.7 is the default.
        truncate: `k` in (0, 1), or None (default) for the plain form. The paper takes 0.5.
        start: Share of training in [0, 1) after which truncation is on. None is 1/3, the paper's
            epoch 40 of 120 on CIFAR-10.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, a `start` without `truncate`, or, when called,
            labels or logits that do not fit, or truncation with `start > 0` outside of `LPLModel`.

    Example:

    >>> loss = keras_lpl.GeneralizedCrossEntropyLoss(q=0.7)
    >>> print(round(float(loss(np.array([0]), np.zeros((1, 2)))), 4))
    0.5492
    """

    def __init__(
        self,
        q: float = 0.7,
        truncate: float | None = None,
        start: float | None = None,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "generalized_cross_entropy_loss",
        dtype: str | None = None,
    ) -> None:
        self.q = checks.number(q, "q", minimum=0, maximum=1)
        self.truncate = None if truncate is None else _check_truncate(truncate)
        self.start = _check_start(start, self.truncate)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("progress",) if self.start else ()

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        is_on = True
        if self.start:
            is_on = ops.greater_equal(ops.cast(context.progress, "float32"), self.start)
        return generalized_crossentropy(samples, self.q, self.truncate, is_on)

    def get_config(self) -> dict[str, Any]:
        return {
            "q": self.q,
            "truncate": self.truncate,
            "start": self.start,
            **super().get_config(),
        }


def _check_truncate(truncate):
    value = checks.number(truncate, "truncate", minimum=0, maximum=1, exclusive=True)
    if value == 1:
        raise ValueError(
            "`truncate` must be below 1, or no sample is left to learn from. The paper takes 0.5. "
            f"Received: truncate={truncate!r}"
        )
    return value


def _check_start(start, truncate):
    if truncate is None:
        if start is not None:
            raise ValueError(
                "`start` says when truncation starts: pass `truncate`, or leave `start` out. "
                f"Received: start={start!r}, truncate=None"
            )
        return None
    value = checks.number(DEFAULT_START if start is None else start, "start", minimum=0, maximum=1)
    if value == 1:
        raise ValueError(
            "`start` must be below 1, or truncation never starts; to have none, leave `truncate` "
            f"out. Received: start={start!r}"
        )
    return value
