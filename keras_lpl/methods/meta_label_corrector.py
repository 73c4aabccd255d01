"""Meta soft label corrector: two small nets learn how far to believe a label.

Wu, Shu, Xie, Zhao, Meng: "Learning to purify noisy labels via meta soft label corrector", AAAI
2021. With `p_i` the prediction of sample `i`, `s_i` what the last correction of its label came to,
and `V_1`, `V_2` nets of one hidden layer,

    a_i = V_1(-log p_i[y_i])                  trust in the given label
    b_i = V_2(-log p_i[z_i])                  trust in the last correction, z_i = argmax s_i

    t_i = a_i y_i + (1 - a_i) (b_i z_i + (1 - b_i) argmax p_i)      trained with, one-hot classes
    s_i <- a_i y_i + (1 - a_i) (b_i s_i + (1 - b_i) p_i)            kept till the sample's next turn

and the nets move down the gradient of the cross-entropy of a few clean samples one step ahead.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.meta_method import MetaMethod
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import State
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.meta_weight_net import WeightNet, weight_of_loss


class Corrector(State):
    """The nets `V_1` and `V_2`, and `s`, the last correction of each training sample.

    Attributes:
        nets: Of the given label, and of the last correction.
        corrections: `(samples + 1, classes)`; rows of zeros belong to samples that had no turn yet,
            the last one to none.
    """

    def __init__(
        self, num_samples: int, num_classes: int, units: int, learning_rate: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.nets = [
            WeightNet(units, learning_rate, name=name) for name in ("of_given", "of_correction")
        ]
        self.corrections = self.add_weight(
            name="corrections",
            shape=(num_samples + 1, num_classes),
            initializer="zeros",
            trainable=False,
            autocast=False,
        )


@register
class MetaLabelCorrector(MetaMethod):
    """Meta soft label corrector: wrong labels give way to what the model predicts.

    Wu et al., "Learning to purify noisy labels via meta soft label corrector", AAAI 2021. Two
    nets learn from clean samples how far to believe a label. For training sets with wrong labels.

    What a label was last corrected to is kept for each sample. So the labels of training data come
    with the number of their sample, as `keras_lpl.data.numbered_labels(y)` gives them; those of
    validation data may come without.

    Memory: `num_samples * classes` floats, in the model and in its file.

    Args:
        num_samples: Size of the training set.
        warm_up: Share of training in which labels stay as they are; the authors' 80 of 120 epochs.
            It is measured by `fit`.
        hard: Whether the loss sees the most likely class of the last correction and of the
            prediction, as in the authors' code; False for both as they are.
        units: Units of the nets' hidden layer; the paper's 100.
        learning_rate: Of the nets' own optimizers, Adam.
        weight_decay: L2 penalty on the nets' parameters, as in PyTorch's Adam.

    Raises:
        ValueError: for an argument out of range, or when compiled, for a loss that is not one of
            this package with one label per sample.

    Example:

    >>> x, y = np.eye(3, 8), np.array([0, 1, 2])
    >>> network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.MetaModel.from_model(
    ...     network, method=keras_lpl.models.MetaLabelCorrector(num_samples=3), meta_data=(x, y)
    ... )
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> history = model.fit(x, keras_lpl.data.numbered_labels(y), epochs=3, verbose=0)
    >>> model.corrected_labels().shape
    (3, 3)
    """

    def __init__(
        self,
        num_samples: int,
        warm_up: float = 2 / 3,
        *,
        hard: bool = True,
        units: int = 100,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
    ) -> None:
        self.num_samples = checks.integer(num_samples, "num_samples", minimum=1)
        self.warm_up = checks.number(warm_up, "warm_up", minimum=0, maximum=1)
        self.follows_schedule = self.warm_up > 0
        self.hard = hard
        self.units = checks.integer(units, "units", minimum=1)
        self.learning_rate = checks.number(learning_rate, "learning_rate", minimum=0)
        self.weight_decay = checks.number(weight_decay, "weight_decay", minimum=0)

    def create_state(self, num_classes: int) -> Corrector:
        return Corrector(
            self.num_samples, num_classes, self.units, self.learning_rate, name="label_corrector"
        )

    def corrections(self, state: Corrector) -> Any:
        return state.corrections

    def check_loss(self, loss: Any) -> None:
        fits = isinstance(loss, ClassificationLoss)
        if not fits or loss.multi_label or loss.ignore_class is not None:
            raise ValueError(
                "`MetaLabelCorrector` corrects one label per sample: compile the model with a loss "
                "of `keras_lpl`, for instance `keras_lpl.PerturbedCrossentropy([])`, without "
                f"`multi_label` and `ignore_class`. Received: loss={getattr(loss, 'name', loss)!r}"
            )

    def learnt(self, state: Any, statistics: Mapping[str, Any], shape: tuple) -> list[Tensor]:
        return [parameter.value for net in state.nets for parameter in net.parameters]

    def improve(self, learnt: list[Tensor], gradients: list[Tensor], state: Any) -> list[Tensor]:
        # In the warm-up nothing depends on the nets. Their optimizers rest as well: decay alone
        # would take the nets to zero, and bias correction would end before their first step.
        are_used = ops.any(ops.stack([ops.any(gradient != 0) for gradient in gradients]))
        are_used = ops.cast(are_used, "float32")
        half = len(learnt) // 2
        for net, part in zip(state.nets, (slice(half), slice(half, None)), strict=True):
            steps = ops.copy(net.optimizer.iterations.value)  # PyTorch counts in its memory
            decayed = [
                are_used * (gradient + self.weight_decay * ops.convert_to_tensor(value))
                for gradient, value in zip(gradients[part], learnt[part], strict=True)
            ]
            engines.apply_gradients(net.optimizer, decayed, net.parameters)
            net.optimizer.iterations.assign(steps + ops.cast(are_used, steps.dtype))
        return self.learnt(state, {}, ())

    def correct(
        self, learnt: list[Tensor], samples: Samples, last: Tensor, progress: Any
    ) -> tuple[Tensor, Tensor]:
        log_p = ops.stop_gradient(ops.log_softmax(samples.logits, axis=-1))
        p, given = ops.exp(log_p), ops.cast(samples.membership, log_p.dtype)
        last = ops.cast(last, p.dtype)
        last = ops.where(ops.any(last > 0, axis=-1, keepdims=True), last, p)
        half = len(learnt) // 2
        trust = [
            weight_of_loss(-ops.sum(label * log_p, axis=-1), net)[:, None]
            for label, net in ((given, learnt[:half]), (_most_likely(last), learnt[half:]))
        ]

        def corrected(last, p):
            return trust[0] * given + (1 - trust[0]) * (trust[1] * last + (1 - trust[1]) * p)

        hard = (_most_likely(last), _most_likely(p)) if self.hard else (last, p)
        is_warm = ops.cast(progress, p.dtype) >= self.warm_up
        return (
            ops.where(is_warm, corrected(*hard), given),
            ops.stop_gradient(ops.where(is_warm, corrected(last, p), p)),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "num_samples": self.num_samples,
            "warm_up": self.warm_up,
            "hard": self.hard,
            "units": self.units,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
        }


def _most_likely(p):
    """The most likely class of each row, one-hot; the first of several."""
    return ops.one_hot(ops.argmax(p, axis=-1), p.shape[-1], dtype=p.dtype)
