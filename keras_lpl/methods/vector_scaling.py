"""Vector scaling: `u_c * (N_c / N_max)^gamma + tau * log pi_c`.

Kini et al.: "Label-imbalanced and group-sensitive classification under overparameterization",
NeurIPS 2021, Eq. 2. `gamma=0` is logit adjustment, `tau=0` the class-dependent temperatures (CDT)
of Ye et al., 2020.
"""

from typing import Any

import numpy as np

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.logit_adjustment import log_prior


@register
class VS(Perturbation):
    """Scales the logits of rare classes down in training, and adds `tau * log pi_c`.

    The adjustment alone loses its effect as training goes on to zero loss; the scale does not: a
    rare class's logits must grow by the inverse factor, which raw logits, used in evaluation,
    keep.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        gamma: Strength of the scale `(N_c / N_max)^gamma`; 0 leaves it out.
        tau: Strength of the adjustment, as in `LogitAdjustment`; 0 leaves it out.

    Raises:
        ValueError: for a count of zero or less, or a negative `gamma` or `tau`.
    """

    def __init__(self, class_counts: Counts, gamma: float = 0.3, tau: float = 1.0) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        self.tau = checks.number(tau, "tau", minimum=0)
        self.corrects_prior = self.tau > 0

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        counts = np.asarray(self.class_counts, dtype="float64")
        scale = (counts / counts.max(axis=-1, keepdims=True)) ** self.gamma
        shift = self.tau * log_prior(self.class_counts)
        scaled = engines.rounded(samples.logits * samples.of_classes(scale))
        return scaled + samples.of_classes(shift)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "gamma": self.gamma,
            "tau": self.tau,
        }


@register
class VSLoss(PerturbationLoss):
    """Vector scaling (VS): logits scaled and shifted by class frequency, for long tails.

    Kini et al., "Label-imbalanced and group-sensitive classification under overparameterization",
    NeurIPS 2021. `gamma=0` is logit adjustment, `tau=0` class-dependent temperatures (CDT).

    Predict with the raw logits. In a plain `keras.Model`, `val_loss` is that of the changed logits;
    in an `LPLModel` it is plain cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        gamma: Strength of the scale. 0.3 is the default of the authors' code; the larger the
            imbalance, the more it does.
        tau: Strength of the adjustment.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `gamma` or `tau`, or, when called, if
            the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.VSLoss(class_counts=[90, 10], gamma=0.5, tau=0.0)
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 3.0]]))), 4))
    0.3133
    """

    def __init__(
        self,
        class_counts: Counts,
        gamma: float = 0.3,
        tau: float = 1.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "vs_loss",
        dtype: str | None = None,
    ) -> None:
        perturbation = VS(class_counts, gamma, tau)
        super().__init__(
            [perturbation],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
