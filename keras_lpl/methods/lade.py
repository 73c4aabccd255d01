"""`LADELoss`: logit adjustment, and a regulariser that ties each class's logit to a density ratio.

    loss_i = -log softmax(u_i + log pi)[y_i] + strength * R

    R   = -sum_c pi_c (P_c - Q_c - penalty * Q_c^2)
    P_c = mean of u_ic over the batch's rows of class c
    Q_c = log mean_i exp(u_ic) - log(C pi_c)                 over all rows of the batch

Hong, Han, Choi, Seo, Kim, Chang: "Disentangling label distribution for long-tailed visual
recognition", CVPR 2021: `P_c - Q_c` is the Donsker-Varadhan bound, and `penalty` keeps it from
drifting. As in the authors' code.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.numerics import TINY, divide_or_zero
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.logit_adjustment import log_prior

# The penalty grows no further from here on: the square of a larger number may be infinite.
LARGEST_ROOT = 1e15


def lade_regularizer(samples: Samples, class_counts: Counts, penalty: float) -> Tensor:
    """`R` of a batch, a scalar. Rows of weight 0 have no part in it; without others it is 0.

    A class that is not in the batch has `P_c = 0`, as in the authors' code.

    Args:
        samples: The batch.
        class_counts: `(classes,)`.
        penalty: Of the squared normaliser, at least 0.
    """
    logits, weight = samples.logits, samples.weight[:, None]
    member = samples.membership * weight
    of_class = divide_or_zero(ops.sum(member * logits, axis=0), ops.sum(member, axis=0))

    # Rows of weight 0 may hold anything: they get a number below any logit.
    is_in = weight > 0
    kept = ops.where(is_in, logits + ops.log(ops.where(is_in, weight, 1.0)), -1e37)
    log_mean = ops.logsumexp(kept, axis=0) - ops.log(ops.maximum(ops.sum(weight), TINY))

    log_pi = log_prior(class_counts)
    shift = samples.of_classes(log_pi + np.log(len(log_pi)))[0]
    log_mean = log_mean - shift
    square = ops.square(ops.clip(log_mean, -LARGEST_ROOT, LARGEST_ROOT))
    bound = of_class - log_mean - penalty * square
    regularizer = -ops.sum(samples.of_classes(np.exp(log_pi))[0] * bound)
    return ops.where(ops.any(is_in), regularizer, 0.0)


@register
class LADELoss(ClassificationLoss):
    """LADE: logit adjustment, with the training set's class frequencies taken out of the logits.

    Hong et al., "Disentangling label distribution for long-tailed visual recognition", CVPR 2021.
    Beside the cross-entropy of `u + log pi`, a regulariser of the whole batch ties the logit of
    each class to how much likelier the sample is in that class than among all.

    The regulariser is the same for every sample of a batch, and is added to the loss of each. It
    is an estimate from the batch: small batches that lack most classes make it noisy.

    Predict with the raw logits. In a plain `keras.Model`, `val_loss` has adjustment and regulariser
    in it; in an `LPLModel` it is plain cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        strength: Weight of the regulariser, the paper's alpha; 0 is logit adjustment.
        penalty: Weight of the squared normaliser in it, the paper's lambda.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `strength` or `penalty`, or, when
            called, if the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.LADELoss(class_counts=[90, 10], strength=0.1)
    >>> print(round(float(loss(np.array([0, 1]), np.zeros((2, 2)))), 4))
    1.1729
    """

    corrects_prior = True
    supports_multi_label = False

    def __init__(
        self,
        class_counts: Counts,
        strength: float = 0.1,
        penalty: float = 0.1,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "lade_loss",
        dtype: str | None = None,
    ) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.strength = checks.number(strength, "strength", minimum=0)
        self.penalty = checks.number(penalty, "penalty", minimum=0)
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
        adjusted = samples.logits + samples.of_classes(log_prior(self.class_counts))
        regularizer = lade_regularizer(samples, self.class_counts, self.penalty)
        return crossentropy(samples, adjusted) + self.strength * regularizer

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "strength": self.strength,
            "penalty": self.penalty,
            **super().get_config(),
        }
