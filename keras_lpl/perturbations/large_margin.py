"""Large-margin softmax (L-Softmax): `|w_y| |x| psi(theta_y)` in place of `|w_y| |x| cos(theta_y)`.

Liu et al.: "Large-margin softmax loss for convolutional neural networks", ICML 2016, Eqs. 4 to 6:

    psi(theta) = (-1)^k cos(m theta) - 2k   for theta in [k pi / m, (k+1) pi / m]

annealed by the authors as `(lambda * cos + psi) / (lambda + 1)`, with `lambda` falling from a large
value, since training from scratch with `psi` alone diverges.
"""

import math

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.layers.class_statistics import StepCounter
from keras_lpl.layers.cosine_dense import warn_of_cosine_head
from keras_lpl.perturbations.base import Perturbation, register

# cos(m theta) as a polynomial of cos(theta).
COS_OF_MULTIPLE = {
    1: lambda c: c,
    2: lambda c: 2 * c**2 - 1,
    3: lambda c: 4 * c**3 - 3 * c,
    4: lambda c: 8 * c**4 - 8 * c**2 + 1,
}


def psi(cosine, margin):
    """`psi(theta)` as a function of `cos(theta)`: falls from 1 to `1 - 2 margin`."""
    # k counts the borders k pi / m that theta has passed, and so the cosines that c is below.
    k = sum(
        ops.cast(cosine < math.cos(j * math.pi / margin), cosine.dtype) for j in range(1, margin)
    )
    sign = 1 - 2 * ops.mod(k, 2.0) if margin > 1 else 1.0
    return sign * COS_OF_MULTIPLE[margin](cosine) - 2 * k


@register
class LargeMargin(Perturbation):
    """Lowers the logit of the true class as if the angle to its class vector were `margin` times.

    Needs the features before the last layer and that layer's kernel, so it trains in an `LPLModel`
    only. A bias of that layer is left as it is; the paper has none.

    The weight of plain softmax, `lambda = annealing * (1 + gamma * step)^-power`, falls with the
    steps of training, which the model counts and saves. The defaults are those of the authors'
    code, made for some 20,000 steps; a shorter training needs a larger `gamma`.

    Args:
        margin: `m`: 1 (plain), 2, 3 or 4.
        annealing: `lambda` at the first step. 0 for `psi` alone, which rarely trains from scratch.
        gamma: How fast `lambda` falls, per step.
        power: Its exponent.
        annealing_min: Where it stays. The authors advise 0 for easy data, 5 to 10 for hard ones.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.
    """

    needs = ("features", "kernel", "statistics")

    def __init__(self, margin=4, annealing=1000.0, gamma=2.5e-5, power=35.0, annealing_min=0.0):
        self.margin = checks.one_of(margin, "margin", tuple(COS_OF_MULTIPLE))
        self.annealing = checks.number(annealing, "annealing", minimum=0)
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        self.power = checks.number(power, "power", minimum=0)
        self.annealing_min = checks.number(annealing_min, "annealing_min", minimum=0)

    def __call__(self, labels, logits, context):
        member = functional.class_membership(labels, logits)
        features = ops.cast(context.features, logits.dtype)
        kernel = ops.cast(context.kernel, logits.dtype)
        length = _norm(features, axis=-1) * _norm(kernel, axis=0)
        cosine = ops.clip(ops.matmul(features, kernel) / length, -1.0, 1.0)
        lowered = length * (psi(cosine, self.margin) - cosine) / (1 + self._annealing(context))
        return logits + member * lowered

    def _annealing(self, context):
        steps = ops.convert_to_tensor(context.statistics["steps"].steps)
        falling = self.annealing * ops.power(1 + self.gamma * steps, -self.power)
        return ops.maximum(falling, self.annealing_min)

    def check_head(self, layer):
        warn_of_cosine_head(self, layer)

    def create_statistics(self, num_classes, num_features):
        return {"steps": StepCounter()}

    def get_config(self):
        return {
            "margin": self.margin,
            "annealing": self.annealing,
            "gamma": self.gamma,
            "power": self.power,
            "annealing_min": self.annealing_min,
        }


def _norm(x, axis):
    """Length, never 0, with a gradient that is finite at 0."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))
