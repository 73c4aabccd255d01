"""Running statistics of training: what one batch cannot know about the training set.

A statistic is a layer without an output: its variables are saved, restored and placed on devices
with the model that owns it, and `update` folds one training batch in. `LPLModel` creates the
statistics that its loss asks for (`create_statistics` of the loss and its perturbations), updates
each once per training step, and hands them to the loss.
"""

import keras
from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks


class RunningStatistic(keras.layers.Layer):
    """Base class of running statistics, such as class means.

    Implement `update`, and create the variables in `__init__` with `add_statistic`, so that they
    are there before any code is compiled.

    Attributes:
        updates_after_loss: False (default): `update` comes first, and the loss sees the statistic
            with its batch folded in. True: the loss sees it as the batch before has left it.
    """

    updates_after_loss = False

    def __init__(self, **kwargs):
        # Statistics are sums over many batches: float32 whatever the model's policy.
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.built = True

    def add_statistic(self, name, shape, initializer="zeros"):
        """Adds a float32 variable that training updates and gradients do not see."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=False,
            autocast=False,
            # Replicas see different samples, and sums of equal weight may be averaged.
            aggregation="mean",
        )

    def update(self, labels, logits, features=None, sample_weight=None):
        """Folds one training batch in.

        Args:
            labels: int32 `(batch,)`, or soft labels `(batch, num_classes)`.
            logits: `(batch, num_classes)`, detached.
            features: `(batch, num_features)`, detached, or None where nobody asks for them.
            sample_weight: `(batch,)` or None. A sample of weight 0 must change nothing, and a
                sample that is not finite must not either.
        """
        raise NotImplementedError

    def take_settings(self, other):
        """Goes on with the settings of `other`, when a model is compiled anew."""


class RunningClassConfidence(RunningStatistic):
    """Running mean probability of the true class over the training set (Eq. 13 of LPL).

    A moving average over the batches in which a class occurs, each weighted by how much of the
    class it holds: a class keeps its confidence while it is absent, however rare it is.

    Args:
        num_classes: Number of classes.
        momentum: What a batch leaves of the past of the classes it holds. 0.9 averages over
            about ten batches with the class.

    Example:

    >>> q = keras_lpl.layers.RunningClassConfidence(num_classes=2)
    >>> q.update(labels=np.array([0, 0]), logits=np.array([[0.0, 0.0], [100.0, 0.0]]))
    >>> print(keras.ops.convert_to_numpy(q.confidence))
    [0.75 0.5 ]
    """

    def __init__(self, num_classes, momentum=0.9, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.momentum = checks.number(momentum, "momentum", minimum=0, maximum=1)
        self.total = self.add_statistic("total", (num_classes,))
        self.weight = self.add_statistic("weight", (num_classes,))

    @property
    def confidence(self):
        """`(num_classes,)`: `q_c`; the chance `1 / num_classes` for a class not seen yet."""
        total, weight = ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.weight)
        seen = ops.greater(weight, 0)
        mean = total / ops.where(seen, weight, 1.0)
        return ops.where(seen, mean, 1.0 / self.num_classes)

    def update(self, labels, logits, features=None, sample_weight=None):
        logits = ops.cast(logits, "float32")
        confidence, weight = functional.class_confidence(labels, logits, sample_weight)
        kept = ops.where(weight > 0, self.momentum, 1.0)
        self.total.assign(kept * self.total + confidence * weight)
        self.weight.assign(kept * self.weight + weight)


class ClassWeight(RunningStatistic):
    """Weights of the classes, set from outside: state that training reads and does not change.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.value = self.add_statistic("value", (num_classes,), "ones")

    def update(self, labels, logits, features=None, sample_weight=None):
        pass
