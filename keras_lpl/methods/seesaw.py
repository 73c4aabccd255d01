"""Seesaw: `u_j + log M_yj + log C_yj` for the classes `j` other than the sample's own, `y`.

Wang et al.: "Seesaw loss for long-tailed instance segmentation", CVPR 2021, Eqs. 4 to 7:

    mitigation    M_ij = min(1, N_j / N_i)^p          spares rare classes the push of frequent ones
    compensation  C_ij = max(1, sigma_j / sigma_i)^q  pushes back where a class is mistaken for j

`sigma` is the softmax of the sample's logits, held constant; `N` counts the samples seen so far.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import RunningStatistic, as_shape
from keras_lpl.core.typing import Counts, Tensor


class RunningClassCounts(RunningStatistic):
    """Number of training samples seen of each class.

    Args:
        num_classes: Number of classes, or the shape `(problems, classes)`.

    Example:

    >>> seen = keras_lpl.layers.RunningClassCounts(num_classes=3)
    >>> seen.update(keras_lpl.read_output(np.array([0, 2, 2]), np.zeros((3, 3))))
    >>> print(keras.ops.convert_to_numpy(seen.counts))
    [1. 0. 2.]
    """

    def __init__(self, num_classes: int | tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.counts = self.add_statistic("counts", as_shape(num_classes))

    def update(self, samples: Samples) -> None:
        self.counts.assign(self.counts + samples.weight_by_class())


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

    supports_multi_label = False

    def __init__(self, class_counts: Counts | None = None, p: float = 0.8, q: float = 2.0) -> None:
        self.class_counts = None if class_counts is None else checks.class_counts(class_counts)
        self.p = checks.number(p, "p", minimum=0)
        self.q = checks.number(q, "q", minimum=0)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("statistics",) if self.class_counts is None else ()

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        if self.class_counts is None:
            # One, where nothing was seen yet, as in the authors' code.
            counts = ops.maximum(ops.convert_to_tensor(context.statistics["counts"].counts), 1.0)
        else:
            check_counts(self.class_counts, samples)
            counts = np.asarray(self.class_counts, dtype="float64")
        member = samples.membership

        def relative_to_own(of_classes):
            return of_classes - ops.sum(member * of_classes, axis=-1, keepdims=True)

        log_counts = samples.of_classes(ops.log(counts))
        log_mitigation = self.p * ops.minimum(relative_to_own(log_counts), 0.0)
        # The logarithm of a ratio of softmax probabilities is a difference of logits.
        difference = relative_to_own(ops.stop_gradient(samples.logits))
        log_compensation = self.q * ops.maximum(difference, 0.0)
        return samples.logits + (1 - member) * (log_mitigation + log_compensation)

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        if self.class_counts is not None:
            return {}
        return {"counts": RunningClassCounts(shape_by_class)}

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "p": self.p,
            "q": self.q,
        }


@register
class SeesawLoss(PerturbationLoss):
    """Seesaw: a frequent class pushes rare ones down less, unless it is mistaken for them.

    Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021.

    Without `class_counts` the training samples are counted as they come, which takes an `LPLModel`;
    the counts are saved with it.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; None to count during training.
        p: Exponent of the mitigation by counts.
        q: Exponent of the compensation by probabilities.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `p` or `q`, or, when called without
            `class_counts`, outside of `LPLModel`.

    Example: a sample of the frequent class pushes the rare one down less.

    >>> loss = keras_lpl.SeesawLoss(class_counts=[100, 1])
    >>> print(round(float(loss(np.array([0]), np.array([[0.0, 0.0]]))), 4))
    0.0248
    """

    def __init__(
        self,
        class_counts: Counts | None = None,
        p: float = 0.8,
        q: float = 2.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "seesaw_loss",
        dtype: str | None = None,
    ) -> None:
        perturbation = Seesaw(class_counts, p, q)
        super().__init__(
            [perturbation],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
