"""Seesaw: `u_j + log M_yj + log C_yj` for the classes `j` other than the sample's own, `y`.

Wang et al.: "Seesaw loss for long-tailed instance segmentation", CVPR 2021, Eqs. 4 to 7:

    mitigation    M_ij = min(1, N_j / N_i)^p          spares rare classes the push of frequent ones
    compensation  C_ij = max(1, sigma_j / sigma_i)^q  pushes back where a class is mistaken for j

`sigma` is the softmax of the sample's logits, held constant; `N` counts the samples seen so far.
"""

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.layers.class_statistics import RunningClassCounts
from keras_lpl.perturbations.base import Perturbation, register


@register
class Seesaw(Perturbation):
    """Balances the push that samples of one class give to the logit of another.

    Needs no class counts: an `LPLModel` counts the training samples of each class as they come,
    and saves the counts with itself. Given `class_counts` it works in any Keras model.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order; or None to
            count during training.
        p: Exponent of the mitigation by counts; 0 leaves it out.
        q: Exponent of the compensation by probabilities; 0 leaves it out.

    Raises:
        ValueError: for a count of zero or less, a negative `p` or `q`, or, when called without
            `class_counts`, outside of `LPLModel`.
    """

    def __init__(self, class_counts=None, p=0.8, q=2.0):
        self.class_counts = None if class_counts is None else checks.class_counts(class_counts)
        self.p = checks.number(p, "p", minimum=0)
        self.q = checks.number(q, "q", minimum=0)

    @property
    def needs(self):
        return ("statistics",) if self.class_counts is None else ()

    def __call__(self, labels, logits, context):
        if self.class_counts is None:
            # One, where nothing was seen yet, as in the authors' code.
            counts = ops.maximum(ops.convert_to_tensor(context.statistics["counts"].counts), 1.0)
        else:
            checks.counts_match(self.class_counts, logits)
            counts = ops.convert_to_tensor(self.class_counts, dtype="float32")
        member = functional.class_membership(labels, logits)

        def relative_to_own(of_classes):
            return of_classes - ops.sum(member * of_classes, axis=-1, keepdims=True)

        log_counts = ops.cast(ops.log(counts), logits.dtype)[None, :]
        log_mitigation = self.p * ops.minimum(relative_to_own(log_counts), 0.0)
        # The logarithm of a ratio of softmax probabilities is a difference of logits.
        difference = relative_to_own(ops.stop_gradient(logits))
        log_compensation = self.q * ops.maximum(difference, 0.0)
        return logits + (1 - member) * (log_mitigation + log_compensation)

    def create_statistics(self, num_classes, num_features):
        return {} if self.class_counts is not None else {"counts": RunningClassCounts(num_classes)}

    def get_config(self):
        return {
            "class_counts": None if self.class_counts is None else list(self.class_counts),
            "p": self.p,
            "q": self.q,
        }
