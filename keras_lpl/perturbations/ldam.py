"""LDAM: `scale * (u - m_y * onehot(y))`, with a margin `m_c` proportional to `N_c^(-1/4)`.

Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
Eqs. 12 and 13 and the authors' code. (Eq. 8 of the LPL paper leaves the scale out.)
"""

import warnings

import numpy as np
from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.layers.cosine_dense import CosineDense
from keras_lpl.perturbations.base import Perturbation, register


def ldam_margins(class_counts, max_margin):
    """`m_c = max_margin * (N_min / N_c)^(1/4)`, float64 `(num_classes,)`."""
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

    def __init__(self, class_counts, max_margin=0.5, scale=30.0):
        self.class_counts = checks.class_counts(class_counts)
        self.max_margin = checks.number(max_margin, "max_margin", minimum=0)
        self.scale = checks.number(scale, "scale", minimum=0, exclusive=True)

    def __call__(self, labels, logits, context):
        checks.counts_match(self.class_counts, logits)
        margins = ldam_margins(self.class_counts, self.max_margin)
        margins = ops.convert_to_tensor(margins, dtype=logits.dtype)
        return self.scale * (logits - margins * functional.class_membership(labels, logits))

    def check_head(self, layer):
        if self.scale != 1 and not isinstance(layer, CosineDense):
            warnings.warn(
                "LDAM multiplies the logits by its scale, which is made for cosines: end the model "
                "in `keras_lpl.layers.CosineDense(num_classes)`, or training may diverge. "
                f"Received: scale={self.scale:g}, and a model that ends in "
                f"{getattr(layer, 'name', layer)!r} of type {type(layer).__name__}",
                stacklevel=2,
            )

    def get_config(self):
        return {
            "class_counts": list(self.class_counts),
            "max_margin": self.max_margin,
            "scale": self.scale,
        }
