"""Large-margin softmax (L-Softmax): `|w_y| |x| psi(theta_y)` in place of `|w_y| |x| cos(theta_y)`.

Liu et al.: "Large-margin softmax loss for convolutional neural networks", ICML 2016, Eqs. 4 to 6:

    psi(theta) = (-1)^k cos(m theta) - 2k   for theta in [k pi / m, (k+1) pi / m]

annealed by the authors as `(lambda * cos + psi) / (lambda + 1)`, with `lambda` falling from a large
value, since training from scratch with `psi` alone diverges.
"""

import math
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import StepCounter
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.cosine_dense import warn_of_cosine_head

# cos(m theta) as a polynomial of cos(theta).
COS_OF_MULTIPLE = {
    1: lambda c: c,
    2: lambda c: 2 * c**2 - 1,
    3: lambda c: 4 * c**3 - 3 * c,
    4: lambda c: 8 * c**4 - 8 * c**2 + 1,
}


def psi(cosine: Tensor, margin: int) -> Tensor:
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
    supports_multi_label = False

    def __init__(
        self,
        margin: int = 4,
        annealing: float = 1000.0,
        gamma: float = 2.5e-5,
        power: float = 35.0,
        annealing_min: float = 0.0,
    ) -> None:
        self.margin = checks.one_of(margin, "margin", tuple(COS_OF_MULTIPLE))
        self.annealing = checks.number(annealing, "annealing", minimum=0)
        self.gamma = checks.number(gamma, "gamma", minimum=0)
        self.power = checks.number(power, "power", minimum=0)
        self.annealing_min = checks.number(annealing_min, "annealing_min", minimum=0)

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        features = samples.features
        kernel = ops.cast(context.kernel, features.dtype)
        length = _norm(features, axis=-1) * _norm(kernel, axis=0)
        cosine = ops.clip(ops.matmul(features, kernel) / length, -1.0, 1.0)
        annealing = ops.cast(self._annealing(context), features.dtype)
        lowered = length * (psi(cosine, self.margin) - cosine) / (1 + annealing)
        return samples.logits + samples.membership * lowered

    def _annealing(self, context):
        steps = ops.convert_to_tensor(context.statistics["steps"].steps)
        falling = self.annealing * ops.power(1 + self.gamma * steps, -self.power)
        return ops.maximum(falling, self.annealing_min)

    def check_head(self, layer: Any) -> None:
        warn_of_cosine_head(self, layer)

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        return {"steps": StepCounter()}

    def get_config(self) -> dict[str, Any]:
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


@register
class LargeMarginLoss(PerturbationLoss):
    """Large-margin softmax (L-Softmax): the angle to the true class counts `margin` times.

    Liu et al., "Large-margin softmax loss for convolutional neural networks", ICML 2016. Trains in
    a `keras_lpl.LPLModel`, which hands over features and kernel, and counts the steps for the
    annealing; evaluation is plain cross-entropy.

    Args:
        margin: `m`: 1 (plain cross-entropy), 2, 3 or 4.
        annealing: Weight of plain softmax at the first step, `lambda`. It falls as
            `annealing * (1 + gamma * step)^-power`.
        gamma: How fast it falls, per step.
        power: Its exponent.
        annealing_min: Where it stays.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3, use_bias=False)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.LargeMarginLoss(margin=2))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    def __init__(
        self,
        margin: int = 4,
        annealing: float = 1000.0,
        gamma: float = 2.5e-5,
        power: float = 35.0,
        annealing_min: float = 0.0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "large_margin_loss",
        dtype: str | None = None,
    ) -> None:
        perturbation = LargeMargin(margin, annealing, gamma, power, annealing_min)
        super().__init__(
            [perturbation],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
