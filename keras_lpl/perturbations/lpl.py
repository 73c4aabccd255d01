"""Logit perturbation (LPL): Li et al., AAAI 2022, Algorithm 2. The equations are in `functional`.

This file decides, for each of the paper's four variants, what goes into them.
"""

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.perturbations.base import Perturbation, register

# Defaults of the four variants, by split and whether the bound is fixed (delta_epsilon=0).
# The values lie on the paper's grids (balanced: epsilon .1 to .4, delta_epsilon .1 or .2, step
# .01 to .03; long tail: threshold .4 to .6, epsilon 0, delta_epsilon 1.5 to 5, step .1 to .3),
# except the fixed bound for long tails, for which the paper gives no grid.
DEFAULTS = {
    ("confidence", "fixed"): {
        "threshold": "mean",
        "epsilon": 0.2,
        "delta_epsilon": 0.0,
        "step_size": 0.02,
    },
    ("confidence", "varied"): {
        "threshold": "mean",
        "epsilon": 0.2,
        "delta_epsilon": 0.2,
        "step_size": 0.02,
    },
    ("frequency", "fixed"): {
        "threshold": 0.4,
        "epsilon": 1.5,
        "delta_epsilon": 0.0,
        "step_size": 0.1,
    },
    ("frequency", "varied"): {
        "threshold": 0.4,
        "epsilon": 0.0,
        "delta_epsilon": 2.5,
        "step_size": 0.1,
    },
}


@register
class LPL(Perturbation):
    """Pushes each class's logits by a small ascent or descent on its own loss.

    A class with direction +1 is made harder (the model must push it further), one with -1 easier.
    See `keras_lpl.LPLLoss` for the arguments, their defaults and the errors raised.
    """

    def __init__(
        self,
        class_counts=None,
        split=None,
        threshold=None,
        epsilon=None,
        delta_epsilon=None,
        step_size=None,
        head_scale=1.0,
        normalize_gradient=True,
    ):
        if split is None:
            split = "confidence" if class_counts is None else "frequency"
        self.split = checks.one_of(split, "split", ("confidence", "frequency"))
        if split == "frequency" and class_counts is None:
            raise ValueError(
                "`split='frequency'` sorts classes by their training counts: pass `class_counts` "
                "(see `keras_lpl.data.class_counts`). Received: class_counts=None"
            )
        self.class_counts = None if class_counts is None else checks.class_counts(class_counts)

        defaults = DEFAULTS[split, "fixed" if delta_epsilon == 0 else "varied"]
        given = {
            "threshold": threshold,
            "epsilon": epsilon,
            "delta_epsilon": delta_epsilon,
            "step_size": step_size,
        }
        chosen = defaults | {name: value for name, value in given.items() if value is not None}
        self.threshold = self._check_threshold(chosen["threshold"])
        self.epsilon = checks.number(chosen["epsilon"], "epsilon", minimum=0)
        self.delta_epsilon = checks.number(chosen["delta_epsilon"], "delta_epsilon", minimum=0)
        self.step_size = checks.number(chosen["step_size"], "step_size", 0, exclusive=True)
        self.head_scale = checks.number(head_scale, "head_scale", minimum=0)
        if split == "confidence" and head_scale != 1:
            raise ValueError(
                "`head_scale` scales the head's bound, and only `split='frequency'` has a head. "
                f"Received: head_scale={head_scale!r} with split='confidence'"
            )
        self.normalize_gradient = bool(normalize_gradient)
        self._check_step_size()
        if self.split == "frequency":
            # Known before training: plain arrays, rather than work in every step.
            by = (self.class_counts, self.threshold)
            bound = (self.epsilon, self.delta_epsilon, self.head_scale)
            self._by_frequency = (
                ops.convert_to_numpy(functional.split_by_frequency(*by)),
                ops.convert_to_numpy(functional.bound_by_frequency(*by, *bound)),
            )

    @property
    def needs(self):
        return ("confidence",) if self.split == "confidence" else ()

    def __call__(self, labels, logits, context):
        if self.class_counts is not None:
            checks.counts_match(self.class_counts, logits)
        direction, bound = self.direction_and_bound(context.confidence, context.confidence_weight)
        return functional.perturb_logits(
            labels,
            logits,
            direction,
            functional.num_steps(bound, self.step_size),
            self.step_size,
            normalize_gradient=self.normalize_gradient,
            sample_weight=context.sample_weight,
        )

    def direction_and_bound(self, confidence=None, weight=None):
        """`s_c` and `eps_c`, both `(num_classes,)`.

        Args:
            confidence: `(num_classes,)`, read only where `split="confidence"`.
            weight: `(num_classes,)` or None. Classes of weight 0 take no part in the mean.
        """
        if self.split == "frequency":
            return self._by_frequency
        by = (confidence, self.threshold)
        bound = (self.epsilon, self.delta_epsilon)
        return (
            functional.split_by_confidence(*by, weight),
            functional.bound_by_confidence(*by, *bound, weight),
        )

    def _check_threshold(self, threshold):
        if self.split == "confidence":
            if isinstance(threshold, str):
                return checks.one_of(threshold, "threshold", ("mean",))
            return checks.number(threshold, "threshold", minimum=0)
        classes = len(self.class_counts)
        if isinstance(threshold, str):
            raise ValueError(
                "`threshold` of `split='frequency'` is a share of the classes below 1, or a number "
                f"of classes; 'mean' belongs to split='confidence'. Received: {threshold!r}"
            )
        value = checks.number(threshold, "threshold", minimum=0, maximum=classes)
        if value >= 1 and value != int(value):
            raise ValueError(
                "`threshold` must be a share of the classes below 1, or a whole number of head "
                f"classes. Received: threshold={threshold!r}"
            )
        return int(value) if value >= 1 else value

    def _check_step_size(self):
        """A step longer than every bound would leave all logits alone: refused, not ignored."""
        largest_ratio = max(1.0, self.head_scale)
        if self.split == "confidence":  # |threshold - q_c|, both within [0, 1] if "mean"
            largest_ratio = 1.0 if self.threshold == "mean" else max(1.0, self.threshold)
        largest = self.epsilon + self.delta_epsilon * largest_ratio
        if 0 < largest < self.step_size * (1 - 1e-6):
            raise ValueError(
                "`step_size` exceeds every possible bound, so that no class would ever be moved. "
                "Choose a smaller step_size, or a larger epsilon or delta_epsilon. Received: "
                f"step_size={self.step_size:g}, epsilon={self.epsilon:g}, "
                f"delta_epsilon={self.delta_epsilon:g}"
            )

    def get_config(self):
        return {
            "class_counts": None if self.class_counts is None else list(self.class_counts),
            "split": self.split,
            "threshold": self.threshold,
            "epsilon": self.epsilon,
            "delta_epsilon": self.delta_epsilon,
            "step_size": self.step_size,
            "head_scale": self.head_scale,
            "normalize_gradient": self.normalize_gradient,
        }
