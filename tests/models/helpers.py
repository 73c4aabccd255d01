"""Small models and data for the tests of `LPLModel`."""

import keras
import numpy as np
from keras import ops

import keras_lpl

CLASSES = 5
COUNTS = (30, 20, 8, 4, 2)


def data(seed=0, size=64):
    """Inputs, imbalanced labels and the class counts `COUNTS`."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(CLASSES), COUNTS)
    x = rng.normal(size=(size, 6)).astype("float32") + y[:, None] * 0.5
    order = rng.permutation(size)
    return x[order].astype("float32"), y[order]


def functional(**head):
    """A functional model with penultimate features."""
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head", **head)(hidden))


def sequential():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(CLASSES)])


@keras.saving.register_keras_serializable("keras_lpl_tests")
class Subclassed(keras.Model):
    """A plain subclassed model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return self.head(self.hidden(inputs))


class BuiltInside(keras_lpl.LPLModel):
    """`LPLModel`, subclassed in the functional style."""

    def __init__(self):
        inputs = keras.Input((6,))
        super().__init__(inputs, keras.layers.Dense(CLASSES)(inputs))


class WithCall(keras_lpl.LPLModel):
    """`LPLModel`, subclassed with a `call`: refused, as Keras cannot have it both ways."""

    def __init__(self):
        super().__init__()


def compiled_lpl(model=None, loss=None, **compile_keywords):
    """An `LPLModel`, compiled with SGD so that steps are easy to reason about."""
    keras.utils.set_random_seed(1)
    model = keras_lpl.LPLModel.from_model(functional() if model is None else model)
    compile_keywords.setdefault("optimizer", keras.optimizers.SGD(0.1, momentum=0.9))
    model.compile(loss=keras_lpl.LPLLoss() if loss is None else loss, **compile_keywords)
    return model


def loss_of_step(model, *batch):
    """Loss of one step alone: before Keras 3.14, `train_on_batch` returns the mean of all."""
    model.reset_metrics()
    return model.train_on_batch(*batch)


def confidence(model):
    return ops.convert_to_numpy(model.confidence)


def assert_same_weights(one, other, rtol=0.0):
    """All weights, statistics included."""
    for a, b in zip(one.weights, other.weights, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
