"""MetaSAug: ISDA whose covariances are learnt on balanced samples.

Li et al.: "MetaSAug: Meta semantic augmentation for long-tailed visual recognition", CVPR 2021. The
running covariance `Sigma_c` of a rare class is that of a handful of samples. Each step looks ahead
from `L(w; Sigma)`, the loss of ISDA, and trains with

    Sigma' = Sigma - step_size * grad_Sigma L_meta(w - a grad_w L(w; Sigma)),

`L_meta` the plain cross-entropy of a few balanced samples (their Eqs. 7 to 9). The running
covariances themselves go on from the features alone.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.meta_method import MetaMethod
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.isda.moments import RunningMoments
from keras_lpl.methods.isda.perturbation import ISDA


@register
class MetaSAug(MetaMethod):
    """MetaSAug: semantic augmentation by covariances that balanced samples have corrected.

    Li et al., "MetaSAug: Meta semantic augmentation for long-tailed visual recognition", CVPR 2021.
    Compile the model with `keras_lpl.ISDALoss`, or with a list that has one `ISDA`; everything but
    the covariances is that loss's own, and a `step_size` of 0 is that loss.

    Memory: a few arrays of the size of the covariances, and `classes**2 * features` numbers for
    full ones.

    Args:
        step_size: How far the covariances are moved down the gradient; the authors' 0.1.

    Raises:
        ValueError: for a `step_size` below 0, or when compiled, for a loss without ISDA.

    Example:

    >>> network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.MetaModel.from_model(
    ...     network,
    ...     method=keras_lpl.models.MetaSAug(),
    ...     meta_data=(np.eye(3, 8), np.array([0, 1, 2])),
    ... )
    >>> model.compile("sgd", loss=keras_lpl.ISDALoss())
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    def __init__(self, step_size: float = 0.1) -> None:
        self.step_size = checks.number(step_size, "step_size", minimum=0)

    def check_loss(self, loss: Any) -> None:
        perturbations = getattr(loss, "perturbations", [])
        if sum(isinstance(each, ISDA) for each in perturbations) != 1:
            raise ValueError(
                "`MetaSAug` learns the covariances of ISDA: compile the model with "
                "`keras_lpl.ISDALoss()`, or with `keras_lpl.PerturbedCrossentropy` of a list that "
                f"has one `ISDA`. Received: loss={getattr(loss, 'name', loss)!r}"
            )

    def learnt(self, state: Any, statistics: Mapping[str, Any], shape: tuple) -> list[Tensor]:
        # What is added to the covariances, which have the batch folded in when the loss reads them.
        (moments,) = (each for each in statistics.values() if isinstance(each, RunningMoments))
        return [ops.zeros(moments.scatter.shape, dtype="float32")]

    def improve(self, learnt: list[Tensor], gradients: list[Tensor], state: Any) -> list[Tensor]:
        return [-self.step_size * gradients[0]]

    def adapt(self, context: Context, learnt: list[Tensor]) -> Context:
        return context.replace(covariance_shift=learnt[0])

    def get_config(self) -> dict[str, Any]:
        return {"step_size": self.step_size}
