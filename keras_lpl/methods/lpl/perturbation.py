"""The perturbation `LPL`: decides for each variant what goes into the equations."""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.lpl import ascent, equations

BOUNDS = ("ratio", "logarithmic")

# Defaults of the paper's four variants, by split and whether the bound is fixed (delta_epsilon=0).
# The values lie on the paper's grids (balanced: epsilon .1 to .4, delta_epsilon .1 or .2, step
# .01 to .03; long tail: threshold .4 to .6, epsilon 0, delta_epsilon 1.5 to 5, step .1 to .3),
# except the fixed bound for long tails, for which the paper gives no grid.
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
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
    ("frequency", "logarithmic"): {
        "threshold": None,
        "epsilon": 0.0,
        "delta_epsilon": 1.0,
        "step_size": None,  # one step
    },
}
# Of the study's settings (docs/results.md) the one that is never more than half a point behind
# logit adjustment.
CONFIDENCE_POWER = 16.0


@register
class LPL(Perturbation):
    """Pushes each class's logits by a small ascent or descent on its own loss.

    A class with direction +1 is made harder (the model must push it further), one with -1 easier.
    See `keras_lpl.LPLLoss` for the arguments, their defaults and the errors raised.
    """

    # Any: `split` and `bound` decide which of these are None.
    class_counts: Any
    threshold: Any
    num_steps: Any
    step_size: Any

    def __init__(
        self,
        class_counts: Counts | None = None,
        split: str | None = None,
        threshold: float | str | None = None,
        epsilon: float | None = None,
        delta_epsilon: float | None = None,
        step_size: float | None = None,
        head_scale: float = 1.0,
        normalize_gradient: bool = True,
        bound: str | None = None,
        confidence_power: float | None = None,
        num_steps: int | None = None,
    ) -> None:
        self.class_counts = None if class_counts is None else checks.class_counts(class_counts)
        if split is None:
            split = "confidence" if class_counts is None else "frequency"
        self.split = checks.one_of(split, "split", ("confidence", "frequency"))
        if split == "frequency" and class_counts is None:
            raise ValueError(
                "`split='frequency'` sorts classes by their training counts: pass `class_counts` "
                "(see `keras_lpl.data.class_counts`). Received: class_counts=None"
            )
        if bound is None:
            bound = "logarithmic" if split == "frequency" else "ratio"
        self.bound = checks.one_of(bound, "bound", BOUNDS)
        if self.bound == "logarithmic" and self.split != "frequency":
            raise ValueError(
                "`bound='logarithmic'` grows with the training counts, so it goes with "
                "`split='frequency'` and `class_counts`. Received: bound='logarithmic' with "
                f"split={self.split!r}"
            )
        self._set_sizes(threshold, epsilon, delta_epsilon, step_size, num_steps)
        if confidence_power is None:
            confidence_power = CONFIDENCE_POWER if self.bound == "logarithmic" else 0.0
        self.confidence_power = checks.number(confidence_power, "confidence_power", minimum=0)
        self.head_scale = checks.number(head_scale, "head_scale", minimum=0)
        if split == "confidence" and head_scale != 1:
            raise ValueError(
                "`head_scale` scales the head's bound, and only `split='frequency'` has a head. "
                f"Received: head_scale={head_scale!r} with split='confidence'"
            )
        self.normalize_gradient = checks.boolean(normalize_gradient, "normalize_gradient")
        if self.split == "frequency":
            # Known before training: plain arrays, rather than work in every step.
            self._fixed = equations.direction_and_bound_by_frequency(
                self.class_counts,
                self.bound,
                self.threshold,
                self.epsilon,
                self.delta_epsilon,
                self.head_scale,
            )
        self._check_steps()

    def _set_sizes(self, threshold, epsilon, delta_epsilon, step_size, num_steps):
        """Fills in the sizes that are left out, and checks them."""
        is_logarithmic = self.bound == "logarithmic"
        if num_steps is not None and step_size is not None:
            raise ValueError(
                "`num_steps` gives every class as many steps, of length eps_c / num_steps; "
                "`step_size` fixes their length. Pass one of the two. Received: "
                f"num_steps={num_steps!r}, step_size={step_size!r}"
            )
        if is_logarithmic and threshold is not None:
            raise ValueError(
                "`bound='logarithmic'`, the default with counts, splits classes at the geometric "
                "mean of their counts and takes no `threshold`. Leave it out, or pass "
                f"`bound='ratio'`, the paper's. Received: threshold={threshold!r}"
            )
        if is_logarithmic and num_steps is None and step_size is None:
            num_steps = 1
        kind = "fixed" if delta_epsilon == 0 else "varied"
        defaults = DEFAULTS[self.split, "logarithmic" if is_logarithmic else kind]
        given = {
            "threshold": threshold,
            "epsilon": epsilon,
            "delta_epsilon": delta_epsilon,
            "step_size": step_size,
        }
        chosen = defaults | {name: value for name, value in given.items() if value is not None}
        self.threshold = None if is_logarithmic else self._check_threshold(chosen["threshold"])
        self.epsilon = checks.number(chosen["epsilon"], "epsilon", minimum=0)
        self.delta_epsilon = checks.number(chosen["delta_epsilon"], "delta_epsilon", minimum=0)
        self.num_steps = self.step_size = None
        if num_steps is not None:
            self.num_steps = checks.integer(num_steps, "num_steps", minimum=1)
        else:
            self.step_size = checks.number(chosen["step_size"], "step_size", 0, exclusive=True)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        reads = self.split == "confidence" or self.confidence_power > 0
        return ("confidence",) if reads else ()

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        if self.class_counts is not None:
            check_counts(self.class_counts, samples)
        direction, bound = self.direction_and_bound(context.confidence, context.confidence_weight)
        # Cut before the loop, not only after it: frameworks refuse to differentiate a loop whose
        # length depends on the batch even where nobody asks them to.
        fixed = samples.replace(logits=ops.stop_gradient(samples.logits))
        if self.num_steps is not None:
            shift = ascent.equal_steps(
                fixed, direction, bound, self.num_steps, self.normalize_gradient
            )
        else:
            steps = equations.num_steps(bound, self.step_size)
            shift = ascent.steps_of_size(
                fixed, direction, steps, self.step_size, self.normalize_gradient
            )
        return samples.logits + ops.stop_gradient(shift)

    def direction_and_bound(
        self, confidence: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`s_c` and `eps_c`, each with one entry per class.

        Args:
            confidence: `q_c`, one per class, read where `needs` says so.
            weight: Weight of each class, or None. Classes of weight 0 take no part in the mean.
        """
        if self.split == "frequency":
            direction, bound = self._fixed
        else:
            by = (confidence, self.threshold)
            direction = equations.split_by_confidence(*by, weight)
            bound = equations.bound_by_confidence(*by, self.epsilon, self.delta_epsilon, weight)
        if self.confidence_power:
            bound = equations.scale_by_confidence(bound, confidence, self.confidence_power)
        return direction, bound

    def _check_threshold(self, threshold):
        if self.split == "confidence":
            if isinstance(threshold, str):
                return checks.one_of(threshold, "threshold", ("mean",))
            return checks.number(threshold, "threshold", minimum=0)
        several = isinstance(self.class_counts[0], tuple)
        classes = 2 if several else len(self.class_counts)
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

    def _check_steps(self):
        """Refuses steps that move nothing, and more of them than anybody can wait for."""
        if self.split == "frequency":
            largest = float(self._fixed[1].max())
        else:  # |threshold - q_c|, both within [0, 1] if "mean"
            ratio = 1.0 if self.threshold == "mean" else max(1.0, self.threshold)
            largest = self.epsilon + self.delta_epsilon * ratio
        if self.step_size is None:
            if self.num_steps > equations.MOST_STEPS:
                raise ValueError(
                    f"`num_steps` may be {equations.MOST_STEPS} at most: more take seconds a batch "
                    "and change nothing. Choose fewer, such as 1. "
                    f"Received: num_steps={checks.shortened(self.num_steps)}"
                )
            return
        if 0 < largest < self.step_size * (1 - 1e-6):
            raise ValueError(
                "`step_size` exceeds every possible bound, so that no class would ever be moved. "
                "Choose a smaller step_size, or a larger epsilon or delta_epsilon. Received: "
                f"step_size={self.step_size:g}, epsilon={self.epsilon:g}, "
                f"delta_epsilon={self.delta_epsilon:g}"
            )
        equations.check_num_steps(
            largest / self.step_size,
            f"step_size={self.step_size:g} with a bound of up to {largest:g}",
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LPL":
        """The perturbation of a config; version 0.1 saved no `bound`, and meant the ratio."""
        return cls(**{"bound": "ratio", **config})

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "split": self.split,
            "threshold": self.threshold,
            "epsilon": self.epsilon,
            "delta_epsilon": self.delta_epsilon,
            "step_size": self.step_size,
            "head_scale": self.head_scale,
            "normalize_gradient": self.normalize_gradient,
            "bound": self.bound,
            "confidence_power": self.confidence_power,
            "num_steps": self.num_steps,
        }
