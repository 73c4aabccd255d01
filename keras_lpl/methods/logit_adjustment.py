"""Logit adjustment: `u + tau * log pi` in training, or `u - tau * log pi` after it.

Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021, Eq. 10 (the loss) and Eq. 9
(post hoc). With `tau=1` the loss is the balanced softmax of Ren et al., NeurIPS 2020.

For several labels, each is a problem of two classes: `u_l + tau * log(pi_l / (1 - pi_l))`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register, register_as
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor


def log_prior(class_counts: Counts) -> np.ndarray:
    """`log pi_c` of the training frequencies `pi`, float64 `(classes,)` or `(labels, 2)`."""
    counts = np.asarray(class_counts, dtype="float64")
    return np.log(counts / counts.sum(axis=-1, keepdims=True))


@register
class LogitAdjustment(Perturbation):
    """Adds `tau * log pi_c` to the logits: frequent classes get a head start in training.

    The model then has to outdo the prior to be right about a frequent class, and its raw logits,
    used in evaluation, have the prior taken out.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        tau: Strength. 1 is consistent for the balanced error, 0 leaves the logits alone.

    Raises:
        ValueError: for a count of zero or less, or a negative `tau`.
    """

    def __init__(self, class_counts: Counts, tau: float = 1.0) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.tau = checks.number(tau, "tau", minimum=0)
        self.corrects_prior = self.tau > 0
        self._shift = self.tau * log_prior(self.class_counts)
        self._shift.flags.writeable = False

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        return samples.logits + samples.of_classes(self._shift)

    def get_config(self) -> dict[str, Any]:
        return {"class_counts": checks.as_config(self.class_counts), "tau": self.tau}


@register
class LogitAdjustmentLoss(PerturbationLoss):
    """Logit adjustment (LA): cross-entropy of `u + tau * log pi`, for long-tailed training sets.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. `tau=1` is the balanced
    softmax (Ren et al., NeurIPS 2020).

    Predict with the raw logits: the adjustment belongs to training. In a plain `keras.Model`,
    `val_loss` is adjusted too; in an `LPLModel` it is plain cross-entropy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        tau: Strength; 0 is plain cross-entropy. The LPL paper searches 0.5 to 2.5.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `tau`, or, when called, if the number
            of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.LogitAdjustmentLoss(class_counts=[90, 10])
    >>> print(round(float(loss(np.array([0, 1]), np.zeros((2, 2)))), 4))
    1.204
    """

    def __init__(
        self,
        class_counts: Counts,
        tau: float = 1.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "logit_adjustment_loss",
        dtype: str | None = None,
    ) -> None:
        adjustment = LogitAdjustment(class_counts, tau)
        super().__init__(
            [adjustment],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@register_as("LogitAdjustmentLayer")
class PostHocLogitAdjustment(keras.layers.Layer):
    """Takes `tau * log pi_c` off the logits of a model trained with plain cross-entropy.

    For prediction, after training. Not for a model trained with a logit-adjusted loss: that one has
    the prior out of its logits already.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; for one logit negatives and positives, for several labels `(labels, 2)`.
        tau: Strength. 1 is consistent for the balanced error; 0 leaves the logits alone. Best
            chosen on held-out data.
        **kwargs: As for `keras.layers.Layer`.

    Input shape: logits `(..., num_classes)`, `(..., 1)` for two classes, or `(..., labels)`. Output
    shape: the same.

    Raises:
        ValueError: for a count of zero or less, a negative `tau`, or if the number of counts is
            not that of the classes.

    Example:

    >>> adjust = keras_lpl.layers.PostHocLogitAdjustment(class_counts=[90, 10])
    >>> print(keras.ops.convert_to_numpy(adjust(np.zeros((1, 2), "float32"))).round(3))
    [[0.105 2.303]]
    """

    def __init__(self, class_counts: Counts, tau: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.class_counts = checks.class_counts(class_counts)
        self.tau = checks.number(tau, "tau", minimum=0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        several = isinstance(self.class_counts[0], tuple)
        units = len(self.class_counts)
        if input_shape[-1] != units and not (input_shape[-1] == 1 and units == 2 and not several):
            raise ValueError(
                "`class_counts` must have one entry per class, for one logit the negatives and the "
                f"positives, for several labels a pair of them each. Received: {units} entries for "
                f"logits of shape {tuple(input_shape)}"
            )
        shift = self.tau * log_prior(self.class_counts)
        if several or input_shape[-1] == 1:  # the difference of two classes' logits
            shift = shift[..., 1] - shift[..., 0]
        self._shift = np.atleast_1d(shift)

    def call(self, logits: Tensor) -> Tensor:
        """Adjusted logits."""
        return logits - ops.convert_to_tensor(self._shift, dtype=logits.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the logits."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        config = {"class_counts": checks.as_config(self.class_counts), "tau": self.tau}
        return {**super().get_config(), **config}
