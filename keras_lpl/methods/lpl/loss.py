"""`LPLLoss`: cross-entropy of logits perturbed by LPL, alone or on top of logit adjustment."""

from typing import Any

from keras_lpl.core import checks
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Counts
from keras_lpl.methods.logit_adjustment import LogitAdjustment
from keras_lpl.methods.lpl.perturbation import LPL

# The smallest of the paper's grid: larger ones lost to logit adjustment alone (docs/results.md).
_DELTA_EPSILON_ON_LA = 1.5


@register
class LPLLoss(PerturbedCrossentropy):
    """Logit perturbation (LPL): trains on logits that were pushed to make classes harder or easier.

    Li, Su, Wu, Zhang, "Logit Perturbation", AAAI 2022, Algorithm 2. In each training step the
    logits of every class in the batch are moved along the gradient of the class's own loss: up for
    classes to augment (direction +1), down for classes to hold back (-1). The cross-entropy of the
    moved logits is trained; the move itself is a constant.

    With `class_counts`, the default needs no tuning: logit adjustment, and on top of it one step
    whose length follows training. A class is pushed by `eps_c = |log N_c - mean log N| q_c^16`, up
    if its count is below the geometric mean and down if above. `q_c` is the confidence in the
    class, so that nothing is pushed before it is learnt. The paper's variants are one argument
    away. What is left out is filled in from this table:

    | variant           | asked for by          | `threshold` | `epsilon` | `delta_epsilon` | step |
    | ----------------- | --------------------- | ----------- | --------- | --------------- | ---- |
    | default           | counts                | none        | 0         | 1               | one  |
    | frequency, varied | `bound="ratio"`       | 0.4         | 0         | 2.5; on LA 1.5  | 0.1  |
    | frequency, fixed  | and `delta_epsilon=0` | 0.4         | 1.5       | 0               | 0.1  |
    | mean, varied      | `split="confidence"`  | "mean"      | 0.2       | 0.2             | 0.02 |
    | mean, fixed       | and `delta_epsilon=0` | "mean"      | 0.2       | 0               | 0.02 |

    In an `LPLModel`, confidence is a running mean over training. In a plain `keras.Model` it comes
    from the batch alone, and the loss perturbs in evaluation too, so that `val_loss` is no plain
    cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; they need not be sorted. `(2,)` for one logit: negatives, positives.
            `(labels, 2)` for several labels. Given, classes are split by frequency.
        split: `"frequency"` (frequent classes are held back, rare ones augmented),
            `"confidence"` (Eq. 12: classes of confidence above the threshold are held back), or
            None to decide by whether `class_counts` is given.
        threshold: For confidence `"mean"`, the mean over classes, or a number; above 1 it augments
            all classes. For the ratio bound where the head ends (Eq. 14): a share of the classes
            below 1, or a number of classes.
        epsilon: Bound that all classes share, in units of the logits.
        delta_epsilon: Factor on the part of the bound that varies (Eq. 18).
        step_size: Length of a step, in units of the logits: a class takes
            `floor(eps_c / step_size)` of them (Eq. 19).
        head_scale: Factor on the head's `delta_epsilon` (split by frequency). The authors' scripts
            use 0.6 on CIFAR-10 and 0.2 on CIFAR-100.
        normalize_gradient: Take steps of a fixed length (default), so that the push is at most
            `eps_c` long. False takes `step_size` times the gradient, Eqs. 16-17 as printed, which
            fades as a class is learnt.
        logit_adjustment: `lambda` of LA+LPL: LPL on `u + lambda * log pi`. Needs `class_counts`.
            None means 1 with the default bound, else 0.
        bound: The part that varies. `"logarithmic"`, the default with counts:
            `|log N_c - mean log N|`. `"ratio"`, the paper's: by frequency `N_c / N_max` in the head
            and `N_min / N_c` in the tail, by confidence `|threshold - q_c|`.
        confidence_power: The bound is multiplied by the confidence `q_c` (Eq. 13) to this power.
            None means 16 with the logarithmic bound, else 0, the bound as it is.
        num_steps: Steps of every class, each of length `eps_c / num_steps`, in place of
            `step_size`. One step has no loop.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`.
        multi_label: As in `keras_lpl.losses.ClassificationLoss`.
        ignore_class: As in `keras_lpl.losses.ClassificationLoss`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, `split="frequency"` or `logit_adjustment` without
            counts, a `step_size` beyond every bound, or, when called, labels or logits that do not
            fit.

    Example: the frequent class is held back, and the rare one pushed.

    >>> logits, labels = np.array([[4.0, 0.0], [0.0, 4.0]]), np.array([0, 1])
    >>> plain = keras_lpl.PerturbedCrossentropy([], reduction=None)(labels, logits)
    >>> print(keras.ops.convert_to_numpy(plain).round(3))
    [0.018 0.018]
    >>> loss = keras_lpl.LPLLoss(class_counts=[100, 10], reduction=None)
    >>> print(keras.ops.convert_to_numpy(loss(labels, logits)).round(2))
    [0.   0.48]
    """

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
        logit_adjustment: float | None = None,
        bound: str | None = None,
        confidence_power: float | None = None,
        num_steps: int | None = None,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "lpl_loss",
        dtype: str | None = None,
    ) -> None:
        is_logarithmic = (
            class_counts is not None and split != "confidence" and bound in (None, "logarithmic")
        )
        if logit_adjustment is None:
            logit_adjustment = 1.0 if is_logarithmic else 0.0
        self.logit_adjustment = checks.number(logit_adjustment, "logit_adjustment", minimum=0)
        is_ratio = not is_logarithmic and split != "confidence"
        if self.logit_adjustment and is_ratio and delta_epsilon is None:
            delta_epsilon = _DELTA_EPSILON_ON_LA
        self._lpl = LPL(
            class_counts=class_counts,
            split=split,
            threshold=threshold,
            epsilon=epsilon,
            delta_epsilon=delta_epsilon,
            step_size=step_size,
            head_scale=head_scale,
            normalize_gradient=normalize_gradient,
            bound=bound,
            confidence_power=confidence_power,
            num_steps=num_steps,
        )
        perturbations: list[Perturbation] = [self._lpl]
        if self.logit_adjustment:
            if class_counts is None:
                raise ValueError(
                    "`logit_adjustment` needs the training counts: pass `class_counts`. "
                    f"Received: logit_adjustment={logit_adjustment!r}, class_counts=None"
                )
            perturbations = [LogitAdjustment(class_counts, self.logit_adjustment), self._lpl]
        super().__init__(
            perturbations,
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LPLLoss":
        """The loss of a config; one that version 0.1 saved has no `bound`, and means the ratio."""
        return cls(**{"bound": "ratio", **config})

    def get_config(self) -> dict[str, Any]:
        return {
            **self._lpl.get_config(),
            "logit_adjustment": self.logit_adjustment,
            **ClassificationLoss.get_config(self),
        }
