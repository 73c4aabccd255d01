"""Logit adjustment: `u + tau * log pi`.

Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021, Eq. 10 (the loss). With
`tau=1` it is the balanced softmax of Ren et al., NeurIPS 2020.
"""

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.perturbations.base import Perturbation, register


def log_prior(class_counts):
    """`log pi_c` as a float64 array `(num_classes,)`, `pi` being the training frequencies."""
    counts = np.asarray(class_counts, dtype="float64")
    return np.log(counts / counts.sum())


@register
class LogitAdjustment(Perturbation):
    """Adds `tau * log pi_c` to the logits: what is frequent is given a start in training.

    The model then has to outdo the prior to be right about a frequent class, and its raw logits,
    used in evaluation, have the prior taken out.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        tau: Strength. 1 is consistent for the balanced error, 0 leaves the logits alone.

    Raises:
        ValueError: for a count of zero or less, or a negative `tau`.
    """

    def __init__(self, class_counts, tau=1.0):
        self.class_counts = checks.class_counts(class_counts)
        self.tau = checks.number(tau, "tau", minimum=0)

    def __call__(self, labels, logits, context):
        checks.counts_match(self.class_counts, logits)
        shift = self.tau * log_prior(self.class_counts)
        return logits + ops.convert_to_tensor(shift, dtype=logits.dtype)

    def get_config(self):
        return {"class_counts": list(self.class_counts), "tau": self.tau}
