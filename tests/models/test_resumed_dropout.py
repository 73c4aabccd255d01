"""A resumed training draws the random numbers that the uninterrupted one draws."""

import keras
import numpy as np
import pytest

import keras_lpl
from tests.models import helpers
from tests.models.helpers import assert_same_weights


class Interrupted(Exception):
    """A power failure."""


class Interrupt(keras.callbacks.Callback):
    """Raises in the middle of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1:
            raise Interrupted


def tensors(noise=True):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    if noise:  # without a seed, Keras takes PyTorch's own dropout, and its global random numbers
        x = keras.layers.GaussianNoise(0.1)(keras.layers.Dropout(0.5, seed=1)(x))
    return inputs, keras.layers.Dense(helpers.CLASSES)(x)


def make_model(**options):
    keras.utils.set_random_seed(0)
    model = keras_lpl.LPLModel(*tensors(**options))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=keras_lpl.LPLLoss())
    return model


def fit(model, epochs=3, **arguments):
    x, y = helpers.data()
    model.fit(x, y, 32, epochs, shuffle=False, verbose=0, **arguments)
    return model


def seeds_of(model):
    seeds = [v for v in model.variables if v.name == "seed_generator_state"]
    return [keras.ops.convert_to_numpy(seed) for seed in seeds]


@pytest.mark.shared_out
def test_from_a_backup(tmp_path):
    whole = fit(make_model())
    backup = [keras.callbacks.BackupAndRestore(tmp_path)]
    with pytest.raises(Interrupted):
        fit(make_model(), callbacks=[*backup, Interrupt()])
    assert_same_weights(fit(make_model(), callbacks=backup), whole)


@pytest.mark.shared_out
def test_from_a_saved_model(tmp_path):
    whole, cut = fit(make_model()), fit(make_model(), epochs=1)
    cut.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(fit(loaded, initial_epoch=1), whole)


def test_keras_itself_restores_none(tmp_path):
    """The tests above can fail."""
    model = make_model()
    plain = keras.Model(*tensors())
    plain.save_weights(tmp_path / "plain.weights.h5")
    before = seeds_of(model)
    plain.load_weights(tmp_path / "plain.weights.h5")
    model.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(seeds_of(model), before)
    assert np.any(np.array(seeds_of(plain)) != before)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_files_go_to_and_from_models_with_other_layers(tmp_path):
    model = fit(make_model(), epochs=1)
    model.save_weights(tmp_path / "some.weights.h5")
    other, plain = make_model(noise=False), keras.Model(*tensors())
    for loaded in (other, plain):
        loaded.load_weights(tmp_path / "some.weights.h5")
        assert_same_weights_of_layers(loaded, model)
    assert not seeds_of(other)
    other.save_weights(tmp_path / "none.weights.h5")
    before = seeds_of(model)
    model.load_weights(tmp_path / "none.weights.h5")
    np.testing.assert_array_equal(seeds_of(model), before)


def assert_same_weights_of_layers(one, other):
    for a, b in zip(one.trainable_weights, other.trainable_weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))
