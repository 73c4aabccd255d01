"""`ProSelfLCLoss`: labels corrected by the model's own predictions, the more it can be trusted.

    loss_i = -sum_c ((1 - e_i) y_ic + e_i p_ic) log p_ic

    trust    e_i  = g * (1 - H(p_i) / log C)
    g        = sigmoid(steepness * (progress - transition))     in the model, as training goes on
    1 - H/log C                                                 in the prediction, if it is sure

Wang, Hua, Kodirov, Clifton, Robertson: "ProSelfLC: Progressive self label correction for training
robust deep neural networks", CVPR 2021. The corrected label is held constant.
"""

import math
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def self_corrected_crossentropy(samples: Samples, trust: Tensor) -> Tensor:
    """Cross-entropy of each row to its corrected label.

    Args:
        samples: The batch.
        trust: `g`, scalar in [0, 1]. 0 is cross-entropy.

    Returns:
        `(rows,)`.
    """
    log_p = ops.log_softmax(samples.logits, axis=-1)
    p = ops.exp(ops.stop_gradient(log_p))
    # log p is finite where p underflows, so the product is 0.
    entropy = -ops.sum(p * ops.stop_gradient(log_p), axis=-1, keepdims=True)
    epsilon = trust * ops.maximum(1 - entropy / math.log(samples.num_classes), 0.0)
    corrected = (1 - epsilon) * samples.membership + epsilon * p
    return -ops.sum(corrected * log_p, axis=-1)


@register
class ProSelfLCLoss(ClassificationLoss):
    """ProSelfLC: cross-entropy to labels that sure predictions correct, late in training.

    Wang et al., "ProSelfLC: Progressive self label correction for training robust deep neural
    networks", CVPR 2021. For training sets with wrong labels: what a model has learnt before it
    memorises them is worth more than they are.

    Reads the progress of `fit`, which takes a `keras_lpl.LPLModel`; evaluation is plain
    cross-entropy. A run resumed with `initial_epoch` goes on where it stopped.

    Args:
        steepness: `B`, how fast trust in the model rises, at least 0. The authors search 5, 10 and
            15.
        transition: Share of training after which a sure prediction weighs as much as the label, in
            [0, 1]. The paper has 1/2; the authors' later code searches it.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for an argument out of range, or, when called, labels or logits that do not fit,
            or outside of `LPLModel`.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.ProSelfLCLoss())
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    needs = ("progress",)

    def __init__(
        self,
        steepness: float = 10.0,
        transition: float = 0.5,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "proselflc_loss",
        dtype: str | None = None,
    ) -> None:
        self.steepness = checks.number(steepness, "steepness", minimum=0)
        self.transition = checks.number(transition, "transition", minimum=0, maximum=1)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        progress = ops.cast(context.progress, samples.logits.dtype)
        trust = ops.sigmoid(self.steepness * (progress - self.transition))
        return self_corrected_crossentropy(samples, trust)

    def get_config(self) -> dict[str, Any]:
        return {
            "steepness": self.steepness,
            "transition": self.transition,
            **super().get_config(),
        }
