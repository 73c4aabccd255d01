"""`AdversarialModel`: an `LPLModel` that trains on inputs moved against it (Madry et al., 2018)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.adversarial.ascent import Ascent
from keras_lpl.models.lpl_model import LPLModel, only_leaf
from keras_lpl.models.plan import read_samples


@register
class AdversarialModel(LPLModel):
    """An `LPLModel` that trains on adversarial inputs (Eq. 1 of LPL; Madry et al., ICLR 2018).

    Each training step moves the inputs of its batch, within a ball around each, to where the
    cross-entropy is largest, and trains on them in place of the given ones, with the compiled loss.
    The moves are projected gradient ascent (PGD) from a random point of the ball; one step without
    a random start is FGSM. Evaluation and prediction see the inputs as they are; `attack` moves
    them, to measure robust accuracy.

    A step takes `num_steps` forward and backward passes more than one of `LPLModel`.

    Args:
        inputs: Input tensors, as in `keras.Model`; one input, of numbers.
        outputs: Logits, as in `LPLModel`; one output.
        epsilon: Radius of the ball, in units of the inputs: 8 / 255 or so for images in [0, 1].
        num_steps: Steps of the ascent.
        step_size: Length of a step; by default `epsilon` for one step, `2.5 * epsilon / num_steps`
            for several.
        norm: `"linf"`: no number of the input moves by more than `epsilon`; `"l2"`: all of them
            together.
        random_start: Start from a random point of the ball, in place of the input itself.
        value_range: `(lowest, highest)` value of an input, which moves do not leave; or None.

    Raises:
        ValueError: for an argument out of range, or a model of several inputs or outputs.

    Example:

    >>> x, y = np.random.uniform(size=(24, 4)), np.repeat([0, 1, 2], 8)
    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.AdversarialModel.from_model(network, epsilon=0.1, num_steps=3)
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> history = model.fit(x, y, verbose=0)
    >>> robust_loss = model.evaluate(model.attack(x, y), y, verbose=0)
    """

    # Keras takes a model for a functional one at load only if the constructor reads like this.
    def __init__(
        self,
        *args: Any,
        epsilon: float = 8 / 255,
        num_steps: int = 7,
        step_size: float | None = None,
        norm: str = "linf",
        random_start: bool = True,
        value_range: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ascent = Ascent.checked(epsilon, num_steps, step_size, norm)
        self.random_start = checks.boolean(random_start, "random_start")
        self.value_range = _checked_range(value_range)
        self.start_seed = keras.random.SeedGenerator()
        _check_single(self)

    def get_config(self) -> dict[str, Any]:
        """Config of the model."""
        return {
            **super().get_config(),
            **self.ascent.get_config(),
            "random_start": self.random_start,
            "value_range": self.value_range,
        }

    def attack(
        self, x: Any, y: Any, *, batch_size: int = 256, num_steps: int | None = None
    ) -> np.ndarray:
        """Adversarial inputs, found as in training but for the network as it predicts.

        Args:
            x: Inputs `(samples, ...)`.
            y: Labels, as for the loss.
            batch_size: Samples worked on at a time.
            num_steps: Steps, each as long as in training; by default as many.

        Returns:
            As `x`: inputs within the ball.
        """
        steps = self.ascent.num_steps if num_steps is None else num_steps
        ascent = Ascent.checked(self.ascent.epsilon, steps, self.ascent.length, self.ascent.norm)
        seed = self.start_seed if self.random_start else None
        return attack_in_batches(self, x, y, ascent, seed, self.value_range, batch_size)

    def train_step(self, *args: Any) -> Any:
        """Keras's training step: `(data)` on TensorFlow and PyTorch, `(state, data)` on JAX."""
        return engines.run_prepared_step(self, self._prepare, super().train_step, *args)

    def _prepare(self, data):
        """The batch, its inputs moved."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        seed = self.start_seed if self.random_start else None
        moved = _moved(
            self, only_leaf(x), only_leaf(y), self.ascent, seed, self.value_range, training=True
        )
        x = keras.tree.pack_sequence_as(x, [moved]) if keras.tree.is_nested(x) else moved
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)


def attack(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    epsilon: float,
    num_steps: int = 20,
    step_size: float | None = None,
    norm: str = "linf",
    random_start: bool = True,
    value_range: tuple[float, float] | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> np.ndarray:
    """Adversarial inputs of any model that ends in logits, by projected gradient ascent.

    To measure how robust a model is: `model.evaluate(attack(model, x, y, epsilon=0.1), y)`.

    Args:
        model: A Keras model of one input and one output, its logits.
        x: Inputs `(samples, ...)`.
        y: Labels: class indices, one-hot or soft.
        epsilon: As in `AdversarialModel`, as all that follow.
        num_steps: Steps of the ascent; 1 with `random_start=False` is FGSM.
        step_size: Length of a step.
        norm: `"linf"` or `"l2"`.
        random_start: Start from a random point of the ball.
        value_range: `(lowest, highest)` value of an input, or None.
        batch_size: Samples worked on at a time.
        seed: Of the random start.

    Returns:
        As `x`: inputs within the ball around each, NumPy.

    Raises:
        ValueError: for an argument out of range, or a model of several inputs or outputs.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> moved = keras_lpl.models.attack(model, np.ones((2, 4)), np.array([0, 1]), epsilon=0.1)
    >>> bool(np.abs(moved - 1).max() <= 0.1 + 1e-6)
    True
    """
    _check_single(model)
    ascent = Ascent.checked(epsilon, num_steps, step_size, norm)
    generator = keras.random.SeedGenerator(checks.seed(seed)) if random_start else None
    value_range = _checked_range(value_range)
    return attack_in_batches(model, x, y, ascent, generator, value_range, batch_size)


def attack_in_batches(
    model: Any, x: Any, y: Any, ascent: Ascent, seed: Any, value_range: Any, batch_size: int
) -> np.ndarray:
    """Adversarial inputs, a batch at a time."""
    batch_size = checks.integer(batch_size, "batch_size", minimum=1)
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y) or not len(x):
        raise ValueError(
            "`attack` needs as many labels as inputs, and at least one. "
            f"Received: x of shape {x.shape}, y of shape {y.shape}"
        )
    moved = []
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        batch = _moved(model, x[rows], y[rows], ascent, seed, value_range, training=False)
        moved.append(ops.convert_to_numpy(batch))
    return np.concatenate(moved)


def _moved(model, x, y, ascent, seed, value_range, training):
    """Adversarial inputs of one batch. Nothing the model keeps is changed but the seed."""
    x = ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
        x = ops.cast(x, keras.config.floatx())
    variables = model.variables
    values = [ops.copy(variable.value) for variable in variables]

    def total_loss(tensors):
        # A look at the loss is no training: what it would update is dropped.
        mapping = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            y_pred = model(x + tensors[0], training=training)
        samples = read_samples(model, y, keras.tree.flatten(y_pred)[0])
        return ops.sum(crossentropy(samples) * samples.weight)

    def gradient_of(delta):
        return engines.gradients_of(total_loss, [delta])[1][0]

    def clip(delta):
        # Values that are out of range already stay, rather than be moved by more than epsilon.
        lowest, highest = ops.minimum(x, value_range[0]), ops.maximum(x, value_range[1])
        return ops.clip(x + delta, lowest, highest) - x

    start = ops.zeros_like(x) if seed is None else _random_start(x, ascent, seed)
    delta = ascent.climb(gradient_of, start, None if value_range is None else clip)
    return ops.stop_gradient(x + delta)


def _random_start(x: Tensor, ascent: Ascent, seed: Any) -> Tensor:
    shape, dtype = ops.shape(x), keras.backend.standardize_dtype(x.dtype)
    if ascent.norm == "linf":
        return keras.random.uniform(shape, -ascent.epsilon, ascent.epsilon, dtype, seed=seed)
    # A random direction, at a random distance: inside of the ball after the projection.
    direction = keras.random.normal(shape, dtype=dtype, seed=seed)
    share = keras.random.uniform((shape[0], *(1 for _ in shape[1:])), dtype=dtype, seed=seed)
    return ascent.project(direction * 1e3 * ascent.epsilon) * share


def _check_single(model):
    inputs, outputs = len(model.inputs), len(model.outputs)
    if (inputs, outputs) != (1, 1):
        raise ValueError(
            "Adversarial inputs are those of a model of one input and one output, its logits. "
            f"Received: {inputs} inputs and {outputs} outputs"
        )


def _checked_range(value_range):
    if value_range is None:
        return None
    try:
        lowest, highest = (float(value) for value in value_range)
    except (TypeError, ValueError):
        lowest, highest = 0.0, 0.0
    if not lowest < highest:
        raise ValueError(
            "`value_range` must be `(lowest, highest)`, the values that an input may have, or "
            f"None. Received: value_range={value_range!r}"
        )
    return (lowest, highest)
