"""Vector scaling: `u_c * (N_c / N_max)^gamma + tau * log pi_c`.

Kini et al.: "Label-imbalanced and group-sensitive classification under overparameterization",
NeurIPS 2021, Eq. 2. `gamma=0` is logit adjustment, `tau=0` the class-dependent temperatures (CDT)
of Ye et al., 2020.
"""

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.perturbations.base import Perturbation, register
from keras_lpl.perturbations.logit_adjustment import log_prior


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

    def __init__(self, class_counts, gamma=0.3, tau=1.0):
        self.class_counts = checks.class_counts(class_counts)
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        self.tau = checks.number(tau, "tau", minimum=0)

    def __call__(self, labels, logits, context):
        checks.counts_match(self.class_counts, logits)
        counts = np.asarray(self.class_counts, dtype="float64")
        scale = (counts / counts.max()) ** self.gamma
        shift = self.tau * log_prior(self.class_counts)
        scale, shift = (ops.convert_to_tensor(x, dtype=logits.dtype) for x in (scale, shift))
        return logits * scale + shift

    def get_config(self):
        return {
            "class_counts": list(self.class_counts),
            "gamma": self.gamma,
            "tau": self.tau,
        }
