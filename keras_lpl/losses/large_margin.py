"""`LargeMarginLoss`: cross-entropy with `|w_y| |x| psi(theta_y)` for the true class's logit."""

from keras_lpl.losses.perturbed_crossentropy import PerturbationLoss
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.large_margin import LargeMargin


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
        margin=4,
        annealing=1000.0,
        gamma=2.5e-5,
        power=35.0,
        annealing_min=0.0,
        reduction="sum_over_batch_size",
        name="large_margin_loss",
        dtype=None,
    ):
        perturbation = LargeMargin(margin, annealing, gamma, power, annealing_min)
        super().__init__([perturbation], reduction=reduction, name=name, dtype=dtype)
