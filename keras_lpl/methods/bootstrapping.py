"""`BootstrappingLoss`: trains on a mixture of the labels and the model's own predictions.

    loss_i = -sum_c (beta y_ic + (1 - beta) p_ic) log p_ic          soft
    loss_i = -sum_c (beta y_ic + (1 - beta) z_ic) log p_ic          hard, z = one-hot argmax of p

Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich: "Training Deep Neural Networks on Noisy Labels with
Bootstrapping", ICLR 2015 workshop.
"""

from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

DEFAULT_BETA = {"soft": 0.95, "hard": 0.8}


def bootstrapped_crossentropy(samples: Samples, beta: float, hard: bool = False) -> Tensor:
    """Bootstrapped cross-entropy of each row.

    Args:
        samples: The batch.
        beta: Weight of the labels; 1 is cross-entropy.
        hard: Mix in the one-hot prediction, rather than the probabilities.

    Returns:
        `(rows,)`.
    """
    log_p = ops.log_softmax(samples.logits, axis=-1)
    given = ops.sum(samples.membership * log_p, axis=-1)
    if hard:
        own = ops.max(log_p, axis=-1)  # sum_c z_c log p_c
    else:
        # log p is finite where p underflows, so the product is 0.
        own = ops.sum(ops.exp(log_p) * log_p, axis=-1)
    return -(beta * given + (1 - beta) * own)


@register
class BootstrappingLoss(ClassificationLoss):
    """Bootstrapping: cross-entropy to `beta` parts label and `1 - beta` parts own prediction.

    Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015
    workshop. Where the model disagrees with a label, its own opinion softens the error.

    The soft form mixes in the probabilities; as in the paper the gradient flows through them, which
    makes it cross-entropy plus an entropy term that rewards being sure. The hard form mixes in the
    one-hot most probable class, a constant.

    In an `LPLModel`, evaluation is plain cross-entropy; in any other `keras.Model`, `val_loss` is
    this loss.

    Args:
        beta: Weight of the labels, above 0 and at most 1; 1 is cross-entropy. None takes the
            paper's 0.95 for the soft form and 0.8 for the hard one.
        hard: Mix in the most probable class, rather than the probabilities.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a `beta` out of range, or, when called, labels or logits that do not fit.

    Example: the model disagrees with the label, and is charged a fifth less for it.

    >>> loss = keras_lpl.BootstrappingLoss(hard=True)
    >>> print(round(float(loss(np.array([0]), np.array([[0.0, 20.0]]))), 4))
    16.0
    """

    def __init__(
        self,
        beta: float | None = None,
        hard: bool = False,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "bootstrapping_loss",
        dtype: str | None = None,
    ) -> None:
        self.hard = checks.boolean(hard, "hard")
        beta = DEFAULT_BETA["hard" if self.hard else "soft"] if beta is None else beta
        self.beta = checks.number(beta, "beta", minimum=0, maximum=1, exclusive=True)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        return bootstrapped_crossentropy(samples, self.beta, self.hard)

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta, "hard": self.hard, **super().get_config()}
