"""Learning to Reweight: samples weigh as much as a step along them helps balanced samples.

Ren, Zeng, Yang, Urtasun: "Learning to reweight examples for robust deep learning", ICML 2018. With
`L_i` the loss of sample `i` and `L_meta` that of a few clean, balanced samples,

    u_i = grad L_meta(w) . grad L_i(w),     v_i = max(u_i, 0) / sum_j max(u_j, 0):

`u_i` is how fast a step along `-grad L_i` lowers `L_meta`, the derivative by the weight of sample
`i` at weights of zero (their Eqs. 4 to 6), where the virtual step has no length.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_lpl.core.meta_method import MetaMethod, share_weight
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor


@register
class LearningToReweight(MetaMethod):
    """Learning to Reweight: a weight for each sample, found anew in each step.

    Ren et al., "Learning to reweight examples for robust deep learning", ICML 2018. A sample whose
    gradient points away from that of the balanced samples gets the weight 0. Nothing is kept from
    step to step. Weights have a mean of one, so that the learning rate keeps its meaning.

    Raises:
        ValueError: when compiled, for a loss whose mean is one over the weights
            (`reduction="mean_with_sample_weight"`), from which no weight can be learnt.

    Example:

    >>> network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.MetaModel.from_model(
    ...     network,
    ...     method=keras_lpl.models.LearningToReweight(),
    ...     meta_data=(np.eye(3, 8), np.array([0, 1, 2])),
    ... )
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    takes_virtual_step = False

    def check_loss(self, loss: Any) -> None:
        if getattr(loss, "reduction", None) == "mean_with_sample_weight":
            raise ValueError(
                "`LearningToReweight` needs a loss that is linear in the sample weights: take "
                "`reduction='sum_over_batch_size'`. Received: "
                f"{type(loss).__name__} with reduction='mean_with_sample_weight'"
            )

    def learnt(self, state: Any, statistics: Mapping[str, Any], shape: tuple) -> list[Tensor]:
        # The loss is linear in the weights, so its mixed derivative is the same at any of them; at
        # zero, losses that look at weights would see an empty batch.
        return [ops.ones(shape, dtype="float32")]

    def improve(self, learnt: list[Tensor], gradients: list[Tensor], state: Any) -> list[Tensor]:
        return [ops.relu(-gradients[0])]

    def virtual_weight(self, learnt: list[Tensor], losses: Tensor, weight: Tensor) -> Tensor:
        return ops.where(weight > 0, learnt[0], 0.0)

    def sample_weight(self, learnt: list[Tensor], losses: Tensor, weight: Tensor) -> Tensor:
        return share_weight(learnt[0], weight)
