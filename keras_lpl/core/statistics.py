"""Running statistics of training: knowledge of the training set that one batch cannot have.

A statistic is a layer without an output: its variables are saved, restored and placed on devices
with the model that owns it, and `update` folds one training batch in. `LPLModel` creates the
statistics that its losses ask for (`create_statistics` of a loss and its perturbations), updates
each once per training step, and passes them to the loss. Statistics of single methods are defined
beside these, in `keras_lpl.methods`.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.numerics import mean_of_sum
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


class State(keras.layers.Layer):
    """A layer of variables alone, which are saved and restored with the model that owns it."""

    def __init__(self, **kwargs: Any) -> None:
        # Sums over many batches: float32 whatever the model's policy.
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.built = True

    def load_own_variables(self, store: Any) -> None:
        """Loads the values. A file of a plain `keras.Model` has none, and changes nothing."""
        if len(store.keys()):
            super().load_own_variables(store)


class RunningStatistic(State):
    """Base class of running statistics, such as class means.

    Implement `update`, and create the variables in `__init__` with `add_statistic`, so that they
    exist before any code is compiled.

    Attributes:
        updates_after_loss: False (default): `update` comes first, and the loss sees the statistic
            with its batch folded in. True: the loss sees it as the previous batch has left it.
    """

    updates_after_loss: bool = False

    def add_statistic(
        self, name: str, shape: tuple[int, ...], initializer: Any = "zeros"
    ) -> keras.Variable:
        """Adds a float32 variable that training updates and gradients do not see."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=False,
            autocast=False,
            # Replicas fold in the same rows, those of all of them.
            aggregation="only_first_replica",
        )

    def update(self, samples: Samples) -> None:
        """Folds one training batch in.

        Args:
            samples: The batch, detached: no gradient flows. Under several replicas it is that of
                all of them, so that all store the same. Rows of weight 0 must change nothing; the
                sums and means of `samples` see to that. All others have numbers whose weighted
                sums and sums of squares are finite: `read_output` gives the rest the weight 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `update`")

    def take_settings(self, other: Any) -> None:
        """Takes over the settings of `other`, a statistic of the same name that came later."""


def as_shape(num_classes: int | tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one number for each class, from a number of classes or the shape itself."""
    return tuple(num_classes) if isinstance(num_classes, (tuple, list)) else (int(num_classes),)


class RunningClassConfidence(RunningStatistic):
    """Running mean probability of the true class over the training set (Eq. 13 of LPL).

    A moving average over the batches in which a class occurs, each weighted by how much of the
    class it holds: a class keeps its confidence while it is absent, however rare it is.

    Args:
        num_classes: Number of classes, or the shape `(problems, classes)`.
        momentum: Share of the past that a batch leaves to the classes it holds. 0.9 averages over
            about ten batches with the class.

    Example:

    >>> q = keras_lpl.layers.RunningClassConfidence(num_classes=2)
    >>> q.update(keras_lpl.read_output(np.array([0, 0]), np.array([[0.0, 0.0], [100.0, 0.0]])))
    >>> print(keras.ops.convert_to_numpy(q.confidence))
    [0.75 0.5 ]
    """

    def __init__(
        self, num_classes: int | tuple[int, ...], momentum: float = 0.9, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        shape = as_shape(num_classes)
        self.num_classes = shape[-1]
        self.momentum = checks.number(momentum, "momentum", minimum=0, maximum=1)
        self.total = self.add_statistic("total", shape)
        self.weight = self.add_statistic("weight", shape)

    @property
    def confidence(self) -> Tensor:
        """`q_c`, one for each class; the chance `1 / classes` for a class not seen yet."""
        total, weight = ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.weight)
        return ops.where(weight > 0, mean_of_sum(total, weight), 1.0 / self.num_classes)

    def update(self, samples: Samples) -> None:
        # Plain operators: run eagerly, Keras's functions take several times as long.
        total, weight = confidence_sums(samples)
        kept = 1 - (1 - self.momentum) * ops.cast(weight > 0, "float32")
        self.total.assign(kept * ops.convert_to_tensor(self.total) + total)
        self.weight.assign(kept * ops.convert_to_tensor(self.weight) + weight)


def confidence_sums(samples: Samples) -> tuple[Tensor, Tensor]:
    """Sum of the true class's probability over the rows of each class, and their weight.

    Both have one entry for each class, and 0 for a class that is not in the batch.
    """
    logits = ops.stop_gradient(samples.logits)
    if not samples.has_soft_labels:
        shape = samples.shape_by_class
        sums = engines.weighted_sums(
            engines.own_probability(logits, samples.labels),
            samples.weight,
            samples.group,
            math.prod(shape),
        )
        if samples.num_problems is None:
            return sums
        return ops.reshape(sums[0], shape), ops.reshape(sums[1], shape)
    # A soft label spreads its row's weight over its classes.
    probability = ops.softmax(logits, axis=-1)
    weighted = samples.labels * samples.weight[:, None]
    both = ops.concatenate([weighted * probability, weighted], axis=-1)
    both = ops.sum(ops.reshape(both, (-1, samples.num_problems or 1, both.shape[-1])), axis=0)
    both = both if samples.num_problems is not None else both[0]
    classes = samples.num_classes
    return both[..., :classes], both[..., classes:]


def mean_confidence(samples: Samples) -> tuple[Tensor, Tensor]:
    """Mean probability of the true class over the rows of each class (Eq. 13), and their weight."""
    total, weight = confidence_sums(samples)
    return mean_of_sum(total, weight), weight


class StepCounter(RunningStatistic):
    """Number of training steps taken, a scalar. The first step is number 0."""

    updates_after_loss = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = self.add_statistic("steps", ())

    def update(self, samples: Samples) -> None:
        self.steps.assign(self.steps + 1)


class TrainingProgress(RunningStatistic):
    """Scalar that goes from 0 to 1 over `fit`, one step at a time, for schedules.

    It is state of the model: saved and restored with it, and changed without compiling again. The
    first step of training is at progress 0.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = self.add_statistic("value", ())
        self.per_step = self.add_statistic("per_step", ())

    def count_step(self) -> None:
        """Counts one training step."""
        self.value.assign(ops.minimum(self.value + self.per_step, 1.0))


class ClassWeight(State):
    """Weights of the classes, set from outside and read by the training step.

    Args:
        num_classes: Number of classes, or the shape `(problems, classes)`.
    """

    def __init__(self, num_classes: int | tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = self.add_weight(
            name="value",
            shape=as_shape(num_classes),
            initializer="ones",
            trainable=False,
            autocast=False,
            aggregation="mean",
        )
