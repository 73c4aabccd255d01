"""ISDA: `u_c + lambda / 2 * (w_c - w_y)' Sigma_y (w_c - w_y)`.

Wang et al.: "Implicit semantic data augmentation for deep networks", NeurIPS 2019, Eq. 7: an upper
bound of the cross-entropy of infinitely many copies of a sample, moved within its class's feature
distribution. `w_c` is the column of class `c` in the last layer's kernel, `Sigma_y` the running
covariance of the features of class `y`; `lambda = strength * t / T`.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.cosine_dense import warn_of_cosine_head
from keras_lpl.methods.isda.moments import RunningMoments
from keras_lpl.methods.isda.spread import spread_of_diagonal, spread_of_full, spread_of_learnt

SCHEDULES = ("linear", None)
COVARIANCES = ("full", "diagonal")


@register
class ISDA(Perturbation):
    """Raises the logits of other classes by the spread of the sample's class towards them.

    Needs the features before the last layer, that layer's kernel, and covariances over the training
    set, so it trains in an `LPLModel` only. The covariances have each batch folded in before its
    loss is computed. They are constants for back-propagation; the kernel is not.

    Memory: `num_classes * num_features**2` numbers for full covariances, with 1,000 classes of
    2,048 features 16 GB; `num_classes * num_features` for diagonal ones. Time: proportional to the
    classes in the batch for full covariances, to the batch for diagonal ones.

    Args:
        strength: `lambda_0`. The authors use 0.5 on CIFAR, up to 10 on ImageNet.
        schedule: `"linear"`: `lambda` grows from 0 to `strength` over `fit`; None: constant.
        covariance: `"full"` or `"diagonal"`.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.
    """

    supports_multi_label = False

    def __init__(
        self,
        strength: float = 0.5,
        schedule: str | None = "linear",
        covariance: str = "full",
    ) -> None:
        self.strength = checks.number(strength, "strength", minimum=0)
        self.schedule = checks.one_of(schedule, "schedule", SCHEDULES)
        self.covariance = checks.one_of(covariance, "covariance", COVARIANCES)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        needs = ("features", "kernel", "statistics")
        return (*needs, "progress") if self.schedule == "linear" else needs

    @property
    def _statistic(self):
        return f"{self.covariance}_moments"

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        strength = self.strength
        if self.schedule == "linear":
            strength = strength * context.progress
        moments = context.statistics[self._statistic]
        kernel = ops.cast(context.kernel, "float32")
        shift = context.covariance_shift
        if self.covariance == "full" and shift is None:
            spread = spread_of_full(samples, kernel, moments.scatter, moments.count)
        else:
            covariance = ops.stop_gradient(ops.convert_to_tensor(moments.covariance))
            covariance = covariance if shift is None else covariance + shift
            of_kind = spread_of_diagonal if self.covariance == "diagonal" else spread_of_learnt
            spread = of_kind(samples, kernel, covariance)
        return samples.logits + ops.cast(0.5 * strength * spread, samples.logits.dtype)

    def check_head(self, layer: Any) -> None:
        warn_of_cosine_head(self, layer)

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        assert num_features is not None, "`needs` has the features"
        diagonal = self.covariance == "diagonal"
        moments = RunningMoments(shape_by_class[0], num_features, diagonal=diagonal)
        return {self._statistic: moments}

    def get_config(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "schedule": self.schedule,
            "covariance": self.covariance,
        }
