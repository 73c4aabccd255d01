"""Meta-Weight-Net: a small net learns to turn the loss of a sample into its weight.

Shu et al.: "Meta-Weight-Net: Learning an explicit mapping for sample weighting", NeurIPS 2019. With
`L_i` the cross-entropy of sample `i`, `V` a net of one hidden layer with parameters `t`, and the
loss of a batch

    L(w; t) = sum_i v_i L_i(w),     v_i = V(L_i; t) / sum_j V(L_j; t),

each step looks ahead (`w' = w - a grad_w L(w; t)`), moves `t` down the gradient of the
cross-entropy of a few balanced samples at `w'` (Eq. 7), and trains with the new weights (Eq. 8).
"""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.meta_method import MetaMethod, share_weight
from keras_lpl.core.registry import register
from keras_lpl.core.statistics import State
from keras_lpl.core.typing import Tensor


def weight_of_loss(losses: Tensor, parameters: list[Tensor]) -> Tensor:
    """`V(L) = sigmoid(relu(L k_1 + b_1) k_2 + b_2)` of each loss, in the shape of `losses`.

    Args:
        losses: Losses of any shape.
        parameters: `k_1` `(1, units)`, `b_1` `(units,)`, `k_2` `(units, 1)` and `b_2` `(1,)`.
    """
    kernel, bias, last_kernel, last_bias = parameters
    hidden = ops.relu(ops.matmul(losses[..., None], kernel) + bias)
    return ops.sigmoid(ops.matmul(hidden, last_kernel) + last_bias)[..., 0]


class WeightNet(State):
    """The net `V` and the state of its optimizer, Adam."""

    def __init__(self, units: int, learning_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        shapes = ((1, units), (units,), (units, 1), (1,))
        # As the authors': uniform within 1 / sqrt(inputs), biases too, so that the units switch on
        # at different losses.
        self.parameters = [
            self.add_weight(
                name=name,
                shape=shape,
                initializer=keras.initializers.RandomUniform(-bound, bound),
                trainable=False,  # not by the optimizer of the model
                autocast=False,
            )
            for name, shape, bound in zip(
                ("kernel", "bias", "last_kernel", "last_bias"),
                shapes,
                (1.0, 1.0, *(1 / math.sqrt(units),) * 2),
                strict=True,
            )
        ]
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.parameters)
        self.slots = list(self.optimizer.variables)  # tracked, saved and restored


@register
class MetaWeightNet(MetaMethod):
    """Meta-Weight-Net: a net, learnt on balanced samples, gives each sample a weight by its loss.

    Shu et al., "Meta-Weight-Net: Learning an explicit mapping for sample weighting", NeurIPS 2019.
    The weights of a batch are scaled to a mean of one, so that a constant net is training without
    it, and whatever loss the model is compiled with is weighted.

    Args:
        units: Units of the hidden layer; the paper's 100.
        learning_rate: Of the net's own optimizer, Adam.
        weight_decay: L2 penalty on the net's parameters, as in PyTorch's Adam.

    Raises:
        ValueError: for an argument out of range.

    Example:

    >>> network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.MetaModel.from_model(
    ...     network,
    ...     method=keras_lpl.models.MetaWeightNet(),
    ...     meta_data=(np.eye(3, 8), np.array([0, 1, 2])),
    ... )
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    >>> weight = model.weight_of_losses(np.array([0.1, 1.0, 5.0]))
    """

    def __init__(
        self, units: int = 100, learning_rate: float = 1e-3, weight_decay: float = 1e-4
    ) -> None:
        self.units = checks.integer(units, "units", minimum=1)
        self.learning_rate = checks.number(learning_rate, "learning_rate", minimum=0)
        self.weight_decay = checks.number(weight_decay, "weight_decay", minimum=0)

    def create_state(self, num_classes: int) -> WeightNet:
        return WeightNet(self.units, self.learning_rate, name="weight_net")

    def learnt(self, state: Any, statistics: Mapping[str, Any], shape: tuple) -> list[Tensor]:
        return [parameter.value for parameter in state.parameters]

    def improve(self, learnt: list[Tensor], gradients: list[Tensor], state: Any) -> list[Tensor]:
        gradients = [
            gradient + self.weight_decay * ops.convert_to_tensor(value)
            for gradient, value in zip(gradients, learnt, strict=True)
        ]
        engines.apply_gradients(state.optimizer, gradients, state.parameters)
        return [parameter.value for parameter in state.parameters]

    def sample_weight(self, learnt: list[Tensor], losses: Tensor, weight: Tensor) -> Tensor:
        return share_weight(weight_of_loss(losses, learnt), weight)

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
        }
