"""LDAM: `scale * (u - m_y * onehot(y))`, with a margin `m_c` proportional to `N_c^(-1/4)`.

Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
Eqs. 12 and 13 and the authors' code. (Eq. 8 of the LPL paper leaves the scale out.)
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
from keras_lpl.methods.cosine_dense import warn_of_dense_head


def ldam_margins(class_counts: Counts, max_margin: float) -> np.ndarray:
    """Margins `m_c = max_margin * (N_min / N_c)^(1/4)`, float64 `(classes,)`."""
    counts = np.asarray(class_counts, dtype="float64")
    return max_margin * (counts.min() / counts) ** 0.25


@register
class LDAM(Perturbation):
    """Takes a margin off the true class's logit, larger for rare classes, and scales all logits.

    Made for the logits of a normalised classifier, cosines within [-1, 1]: end the model in
    `keras_lpl.layers.CosineDense`. In an `LPLModel` with another last layer it warns. On a plain
    dense layer the scale multiplies logits that know no bounds, and training diverges.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        max_margin: The margin of the rarest class, in units of the cosine.
        scale: Factor on all logits after the margin, the inverse temperature.

    Raises:
        ValueError: for a count of zero or less, a negative `max_margin`, or a `scale` that is not
            positive.
    """

    supports_multi_label = False

    def __init__(self, class_counts: Counts, max_margin: float = 0.5, scale: float = 30.0) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.max_margin = checks.number(max_margin, "max_margin", minimum=0)
        self.scale = checks.number(scale, "scale", minimum=0, exclusive=True)

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        margins = ldam_margins(self.class_counts, self.max_margin)
        lowered = samples.logits - samples.of_classes(margins) * samples.membership
        return engines.rounded(self.scale * lowered)

    def check_head(self, layer: Any) -> None:
        warn_of_dense_head(self, self.scale, layer)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "max_margin": self.max_margin,
            "scale": self.scale,
        }


@register
class LDAMLoss(PerturbationLoss):
    """Label-distribution-aware margins (LDAM): rare classes must win by a larger margin.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS
    2019. The margin of class `c` is `max_margin * (N_min / N_c)^(1/4)`.

    The model must end in `keras_lpl.layers.CosineDense(num_classes)`; in an `LPLModel` that does
    not, it warns. With `keras_lpl.callbacks.DeferredReweighting` it is LDAM-DRW.

    Predict with the cosines themselves. In an `LPLModel`, `val_loss` is the cross-entropy of the
    bare cosines, which is never small; watch accuracy.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        max_margin: The margin of the rarest class, in units of the cosine.
        scale: Factor on the cosines after the margin.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, a negative `max_margin`, a `scale` that is not
            positive, or, when called, if the number of counts is not that of the classes.

    Example:

    >>> loss = keras_lpl.LDAMLoss(class_counts=[160, 10], scale=10.0)
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 0.5]]))), 4))
    0.6931
    """

    def __init__(
        self,
        class_counts: Counts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ldam_loss",
        dtype: str | None = None,
    ) -> None:
        perturbation = LDAM(class_counts, max_margin, scale)
        super().__init__(
            [perturbation],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
