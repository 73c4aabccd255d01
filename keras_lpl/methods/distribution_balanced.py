"""`DistributionBalancedLoss`: binary losses re-balanced by which labels come together.

    yes   w_ic log(1 + exp(-z_ic))
    no    w_ic log(1 + exp(negative_scale * z_ic)) / negative_scale

    logit    z_ic = u_ic + bias_scale * log(p_c / (1 - p_c))
    weight   w_ic = alpha + sigmoid(beta * (r_ic - mu))
    rarity   r_ic = 1/N_c / sum of 1/N_k over the positive labels k of sample i

`N_c` counts the positives of label `c`, and `p_c` is their share.

Wu, Huang, Liu, Wang, Lin: "Distribution-balanced loss for multi-label classification in long-tailed
datasets", ECCV 2020: re-balanced weighting (w) and negative-tolerant regularisation (z and the
scale). With `gamma`, each of the two is focal.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.questions import of_questions, questions, sum_of_sample
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor


def rebalanced_weights(
    samples: Samples, class_counts: Counts, alpha: float, beta: float, mu: float
) -> Tensor:
    """Weight of each question of each row, `(rows, questions)`, or `(rows, 1)`.

    A sample without any positive label has `r = infinity`, and so the weight `alpha + 1`, as in the
    authors' code.

    Args:
        samples: The batch.
        class_counts: `(classes,)`, or negatives and positives of each label, `(labels, 2)`.
        alpha: The least weight.
        beta: How steep the weight is in `r`.
        mu: The `r` in the middle.
    """
    inverse = of_questions(samples, 1.0 / np.asarray(class_counts, dtype="float64"))
    _, yes = questions(samples)
    # A label that is masked is no positive one.
    yes = ops.where(samples.weight[:, None] > 0, yes, 0.0)
    total = sum_of_sample(samples, yes * inverse)
    is_any = total > 0
    ratio = inverse / ops.where(is_any, total, 1.0)
    return alpha + ops.where(is_any, ops.sigmoid(beta * (ratio - mu)), 1.0)


@register
class DistributionBalancedLoss(ClassificationLoss):
    """Distribution-balanced loss (DB): for several labels with a long tail.

    Wu et al., "Distribution-balanced loss for multi-label classification in long-tailed datasets",
    ECCV 2020. Rare labels seldom come alone: whoever shows them more often shows their frequent
    companions more often too. A label weighs more in a sample the rarer it is beside the sample's
    other labels; negatives are pushed down less steeply, and rare labels from a lower start.

    Made for `multi_label=True`, where the loss is the mean over the labels. A row of more than two
    classes is one yes-or-no question for each class, summed up, with one positive each.

    The paper draws its batches class by class, and the weights are made to go with that. They work
    on plain batches too, but then the labels' frequencies are hardly balanced.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        class_counts: Negatives and positives of each label, `(labels, 2)`
            (`keras_lpl.data.class_counts(y, multi_label=True)`); for one label per sample
            `(num_classes,)`.
        alpha: The least weight, at least 0.
        beta: How steeply the weight grows with the rarity, at least 0.
        mu: The rarity in the middle, at least 0.
        negative_scale: Scale of the logits of negatives, the paper's lambda, above 0.
        bias_scale: How much of the log odds of each label is added to its logit, the paper's kappa,
            at least 0.
        gamma: Focus, at least 0; 0 is none. The authors' configurations have 2.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, another argument out of range, or, when called,
            if the counts are not those of the labels.

    Example: the rare one of two positive labels weighs more.

    >>> loss = keras_lpl.DistributionBalancedLoss([[50, 50], [99, 1]], multi_label=True)
    >>> for logits in ([[0.0, 9.0]], [[9.0, 0.0]]):
    ...     print(round(float(loss(np.array([[1, 1]]), np.array(logits))), 4))
    0.0837
    0.4479
    """

    corrects_prior = True

    def __init__(
        self,
        class_counts: Counts,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.2,
        negative_scale: float = 2.0,
        bias_scale: float = 0.05,
        gamma: float = 0.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "distribution_balanced_loss",
        dtype: str | None = None,
    ) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.alpha = checks.number(alpha, "alpha", minimum=0)
        self.beta = checks.number(beta, "beta", minimum=0)
        self.mu = checks.number(mu, "mu", minimum=0)
        self.negative_scale = checks.number(
            negative_scale, "negative_scale", minimum=0, exclusive=True
        )
        self.bias_scale = checks.number(bias_scale, "bias_scale", minimum=0)
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
        check_counts(self.class_counts, samples)
        logits, yes = questions(samples)
        counts = np.asarray(self.class_counts, dtype="float64")
        # At least one: the difference of large counts may be rounded to 0.
        others = np.maximum(counts.sum(axis=-1, keepdims=True) - counts, 1.0)
        log_odds = np.log(counts / others)
        logits = logits + self.bias_scale * of_questions(samples, log_odds)
        scaled = self.negative_scale * logits
        positive = self._focal(logits)
        negative = self._focal(-scaled) / self.negative_scale
        weight = rebalanced_weights(samples, counts, self.alpha, self.beta, self.mu)
        return -ops.sum(weight * (yes * positive + (1 - yes) * negative), axis=-1)

    def _focal(self, logits):
        """`(1 - p)^gamma log p` of `p = sigmoid(logits)`."""
        log_p = ops.log_sigmoid(logits)
        if self.gamma == 0:
            return log_p
        return ops.exp(self.gamma * ops.log_sigmoid(-logits)) * log_p

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "alpha": self.alpha,
            "beta": self.beta,
            "mu": self.mu,
            "negative_scale": self.negative_scale,
            "bias_scale": self.bias_scale,
            "gamma": self.gamma,
            **super().get_config(),
        }
