"""ALA: `scale * (u - D_i Q_y * onehot(y))`, a margin for what is rare and what is hard.

    quantity    Q_c = log 2 / log(N_c / N_min + 1)     1 for the rarest class, less for others
    difficulty  D_i = (1 - u_iy) / 2                   0 if the cosine is 1, 1 if it is -1

Zhao, Chen, Tan, Huang, Zhu: "Adaptive logit adjustment loss for long-tailed visual recognition",
AAAI 2022. `D` is held constant.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.cosine_dense import warn_of_dense_head


def quantity_factors(class_counts: Counts) -> np.ndarray:
    """`log 2 / log(N_c / N_min + 1)`, float64 `(classes,)`."""
    counts = np.asarray(class_counts, dtype="float64")
    return np.log(2.0) / np.log1p(counts / counts.min())


@register
class ALA(Perturbation):
    """Takes a margin off the true class's logit, larger for rare classes and for hard samples.

    Made for cosines within [-1, 1], as `LDAM`: end the model in `keras_lpl.layers.CosineDense`. In
    an `LPLModel` with another last layer it warns.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        scale: Factor on all logits after the margin, the inverse temperature.

    Raises:
        ValueError: for a count of zero or less, or a `scale` that is not positive.
    """

    supports_multi_label = False

    def __init__(self, class_counts: Counts, scale: float = 30.0) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.scale = checks.number(scale, "scale", minimum=0, exclusive=True)

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        difficulty = (1 - ops.stop_gradient(samples.logits)) / 2
        margins = difficulty * samples.of_classes(quantity_factors(self.class_counts))
        return engines.rounded(self.scale * (samples.logits - margins * samples.membership))

    def check_head(self, layer: Any) -> None:
        warn_of_dense_head(self, self.scale, layer)

    def get_config(self) -> dict[str, Any]:
        return {"class_counts": checks.as_config(self.class_counts), "scale": self.scale}


@register
class ALALoss(PerturbationLoss):
    """Adaptive logit adjustment (ALA): rare and hard samples must win by a larger margin.

    Zhao et al., "Adaptive logit adjustment loss for long-tailed visual recognition", AAAI 2022. The
    margin of a sample is `(1 - cosine) / 2`, times `log 2 / log(N_c / N_min + 1)` of its class.

    The model must end in `keras_lpl.layers.CosineDense(num_classes)`; in an `LPLModel` that does
    not, it warns. Predict with the cosines themselves. In an `LPLModel`, `val_loss` is the
    cross-entropy of the bare cosines, which is never small; watch accuracy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        scale: Factor on the cosines after the margin.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a `scale` that is not positive, or, when called,
            if the number of counts is not that of the classes.

    Example: at cosine 0 the rarest class has a margin of 1/2.

    >>> loss = keras_lpl.ALALoss(class_counts=[160, 10], scale=10.0)
    >>> print(round(float(loss(np.array([1]), np.array([[-0.5, 0.0]]))), 4))
    0.6931
    """

    def __init__(
        self,
        class_counts: Counts,
        scale: float = 30.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ala_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            [ALA(class_counts, scale)],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
