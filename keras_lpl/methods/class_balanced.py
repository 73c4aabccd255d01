"""`ClassBalancedLoss`: classes weighted by the inverse of their effective number of samples.

    loss_i = w_{y_i} base(y_i, u_i),    w_c = C v_c / sum_k v_k,    v_c = (1-beta) / (1-beta^N_c)

    base    crossentropy     -log p_y,                                    p = softmax(u)
            focal            -(1 - p_y)^gamma log p_y
            sigmoid_focal    -sum_c (1 - s_c)^gamma log s_c,              s_c = sigmoid(u_c) for
                                                                          c = y, else sigmoid(-u_c)

Cui, Jia, Lin, Song, Belongie: "Class-Balanced Loss Based on Effective Number of Samples", CVPR
2019. The weight stands outside of the focal term.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.focal import focal_crossentropy

BASES = ("crossentropy", "focal", "sigmoid_focal")


def class_balanced_weights(class_counts: Counts, beta: float = 0.9999) -> np.ndarray:
    """Class-balanced weights, `(1 - beta) / (1 - beta^N_c)` scaled to sum to the number of classes.

    Pure NumPy in float64, exact to the last digits for any `beta` below 1.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices, which need not be sorted; or `(labels, 2)`, which gives each label weights of
            its own.
        beta: At least 0 and below 1. 0 gives ones; towards 1 the weights approach the inverse
            counts.

    Returns:
        float64 array in the shape of the counts.

    Raises:
        ValueError: for a count of zero or less, or a `beta` out of range.

    Example:

    >>> from keras_lpl.losses import class_balanced_weights
    >>> print(class_balanced_weights([90, 10], beta=0.99).round(3))
    [0.277 1.723]
    """
    counts = np.asarray(checks.class_counts(class_counts), dtype="float64")
    beta = _check_beta(beta)
    if beta == 0:
        return np.ones_like(counts)
    # 1 - beta^N cancels where beta is close to 1. The factor 1 - beta is lost in scaling.
    weights = -1.0 / np.expm1(counts * np.log(beta))
    return weights * (counts.shape[-1] / weights.sum(axis=-1, keepdims=True))


def sigmoid_focal_crossentropy(samples: Samples, gamma: float) -> Tensor:
    """Focal binary cross-entropy of each class against the rest, summed over classes.

    Args:
        samples: The batch.
        gamma: At least 0; 0 is binary cross-entropy.

    Returns:
        `(rows,)`.
    """
    log_yes, log_no = ops.log_sigmoid(samples.logits), ops.log_sigmoid(-samples.logits)
    membership = samples.membership
    if gamma == 0:
        return -ops.sum(membership * log_yes + (1 - membership) * log_no, axis=-1)
    # 1 - sigmoid(u) is sigmoid(-u), so the focal factor of one is the probability of the other.
    yes = membership * ops.exp(gamma * log_no) * log_yes
    no = (1 - membership) * ops.exp(gamma * log_yes) * log_no
    return -ops.sum(yes + no, axis=-1)


@register
class ClassBalancedLoss(ClassificationLoss):
    """Class-balanced loss: cross-entropy or focal loss, times the weight of the sample's class.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019. A class of
    `N` samples has the weight `(1 - beta) / (1 - beta^N)`, scaled so that the weights sum to the
    number of classes (`keras_lpl.losses.class_balanced_weights`). Soft labels get
    the mean weight of their classes, `sum_c y_c w_c`.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    weighted too. `sigmoid_focal` trains one binary classifier per class; `argmax` predicts with
    it as ever, but the softmax of its logits is no probability, so judge it by its accuracy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        beta: At least 0 and below 1. 0 leaves the base as it is; towards 1 the weights approach
            the inverse counts. The paper searches 0.9 to 0.9999; LDAM-DRW takes 0.9999.
        base: `"crossentropy"`, `"focal"` (softmax) or `"sigmoid_focal"` (the paper's: focal binary
            cross-entropies, summed over the classes).
        gamma: Of the focal bases, at least 0. The paper searches 0.5, 1 and 2.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, another argument out of range, or, when called,
            if the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.ClassBalancedLoss(class_counts=[90, 10], beta=0.99, reduction=None)
    >>> losses = loss(np.array([0, 1]), np.zeros((2, 2)))
    >>> print(keras.ops.convert_to_numpy(losses).round(3))
    [0.192 1.194]
    """

    corrects_prior = True

    def __init__(
        self,
        class_counts: Counts,
        beta: float = 0.9999,
        base: str = "crossentropy",
        gamma: float = 2.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "class_balanced_loss",
        dtype: str | None = None,
    ) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.beta = _check_beta(beta)
        self.base = checks.one_of(base, "base", BASES)
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        self._weights = class_balanced_weights(self.class_counts, self.beta)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        return samples.of_own_class(self._weights) * self._base_loss(samples)

    def _base_loss(self, samples):
        if self.base == "crossentropy":
            return crossentropy(samples)
        if self.base == "focal":
            return focal_crossentropy(samples, self.gamma)
        return sigmoid_focal_crossentropy(samples, self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "beta": self.beta,
            "base": self.base,
            "gamma": self.gamma,
            **super().get_config(),
        }


def _check_beta(beta):
    value = checks.number(beta, "beta", minimum=0, maximum=1)
    if value == 1:
        raise ValueError(
            "`beta` must be below 1; with 0.999999 the weights are all but the inverse counts. "
            f"Received: beta={beta!r}"
        )
    return value
