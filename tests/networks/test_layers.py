"""The networks' own layers compute what Keras's compute."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lpl.networks import _layers

MAKE = {
    "norm": lambda module, **kw: module.BatchNormalization(momentum=0.8, **kw),
    "conv": lambda module, **kw: module.Conv2D(7, 3, padding="same", use_bias=False, **kw),
    "strided": lambda module, **kw: module.Conv2D(7, 3, strides=2, padding="valid", **kw),
    "pointwise": lambda module, **kw: module.Conv2D(4, 1, strides=2, use_bias=False, **kw),
}


def model_with(make, module, dtype):
    """The layer after a mixing of channels, whose step shows the gradient of the inputs."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((7, 5, 3), dtype="float32")
    mixed = layers.Conv2D(6, 1, use_bias=False, name="mix", data_format="channels_last")(inputs)
    outputs = make(module, dtype=dtype, name="layer")(mixed)
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(1)
    for weight in model.get_layer("layer").weights:  # any values; variances must be positive
        weight.assign(0.5 + rng.random(weight.shape))
    model.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    return model


@pytest.mark.shared_out
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", MAKE)
def test_agrees_with_keras(name, dtype):
    x = np.random.default_rng(0).normal(1.0, 2.0, (6, 7, 5, 3)).astype("float32")
    ours, theirs = (model_with(MAKE[name], module, dtype) for module in (_layers, layers))
    before = ours.get_weights()
    tolerance = {"rtol": 0.04, "atol": 0.04} if "16" in dtype else {"rtol": 1e-4, "atol": 1e-5}

    def check_outputs():
        np.testing.assert_allclose(as_float(ours(x)), as_float(theirs(x)), **tolerance)

    check_outputs()
    target = np.random.default_rng(2).normal(size=ours(x).shape).astype("float32")
    losses = [model.train_on_batch(x, target) for model in (ours, theirs)]
    np.testing.assert_allclose(*losses, **tolerance)
    after = [model.get_weights() for model in (ours, theirs)]
    for old, mine, other in zip(before, *after, strict=True):
        assert not np.array_equal(old, other)  # there is something to compare
        np.testing.assert_allclose(mine, other, **tolerance)
    check_outputs()
    assert keras.backend.standardize_dtype(ours(x).dtype) == ours.get_layer("layer").compute_dtype


def test_statistics_move_as_kerass_do():
    # One sample of few pixels: the population's and the sample's variance differ by a quarter.
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype("float32")
    layer = _layers.BatchNormalization(momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(
        as_float(layer.moving_variance), x.var(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(as_float(layer.moving_mean), x.mean(axis=(0, 1, 2)), atol=1e-5)


def test_a_frozen_normalisation_keeps_its_statistics():
    x = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).astype("float32")
    layer = _layers.BatchNormalization()
    layer.trainable = False
    y = layer(x, training=True)
    np.testing.assert_allclose(as_float(y), x / np.sqrt(1.001), rtol=1e-4)
    np.testing.assert_array_equal(as_float(layer.moving_mean), 0)


def as_float(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))
