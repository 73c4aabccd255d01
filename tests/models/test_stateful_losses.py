"""Losses with state, through `fit`, `evaluate`, save and load: the same on every backend."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import perturbations
from keras_lpl.methods.isda import moments, spread
from tests import reference, reference_perturbations
from tests.models import helpers
from tests.models.helpers import COUNTS, assert_same_weights, compiled_lpl

EPOCHS = 3
LOSSES = {
    "isda-full": lambda: keras_lpl.ISDALoss(),
    "isda-full, one by one": lambda: keras_lpl.ISDALoss(),
    "isda-diagonal": lambda: keras_lpl.ISDALoss(schedule=None, covariance="diagonal"),
    "seesaw": lambda: keras_lpl.SeesawLoss(),
    "gcl": lambda: keras_lpl.GCLLoss(COUNTS, scale=1.0),
    "proselflc": lambda: keras_lpl.ProSelfLCLoss(),
    "center": lambda: keras_lpl.CenterLoss(strength=0.1),
    "large-margin": lambda: keras_lpl.LargeMarginLoss(3, annealing=5.0, gamma=0.1, power=2.0),
    "la+isda+lpl": lambda: keras_lpl.PerturbedCrossentropy(
        [perturbations.LogitAdjustment(COUNTS), perturbations.ISDA(), perturbations.LPL()]
    ),
}


@pytest.fixture(autouse=True)
def classes_one_by_one(request, monkeypatch):
    """Has ISDA do what it does with many features, where the test's name says so."""
    if "one by one" in request.node.name:
        monkeypatch.setattr(moments, "MANY_NUMBERS", 0)
        monkeypatch.setattr(spread, "MANY_NUMBERS", 0)


class StopAfter(keras.callbacks.Callback):
    """Interrupts training."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 >= self.epochs


def fit(model, initial_epoch=0, stop_after=EPOCHS, **changes):
    x, y = helpers.data()
    arguments = {"batch_size": 24, "shuffle": False, "verbose": 0} | changes
    callbacks = [StopAfter(stop_after)]
    return model.fit(
        x, y, epochs=EPOCHS, initial_epoch=initial_epoch, callbacks=callbacks, **arguments
    ).history["loss"]


def model_of(name):
    return compiled_lpl(loss=LOSSES[name](), optimizer=keras.optimizers.SGD(0.05, momentum=0.9))


@pytest.mark.shared_out
@pytest.mark.parametrize("name", LOSSES)
def test_an_interrupted_training_goes_on_where_it_stopped(name, tmp_path):
    whole = model_of(name)
    losses = fit(whole)
    assert np.all(np.isfinite(losses)), losses

    part = model_of(name)
    fit(part, stop_after=1)
    part.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(restored, part)
    resumed = fit(restored, initial_epoch=1)
    np.testing.assert_allclose(resumed, losses[1:], rtol=1e-5)
    assert_same_weights(restored, whole, rtol=1e-4)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly, untraced")
@pytest.mark.parametrize("name", ["isda-full", "large-margin", "gcl", "gce-truncated"])
def test_schedules_compile_nothing_anew(name, monkeypatch):
    loss = LOSSES.get(name, lambda: keras_lpl.GeneralizedCrossEntropyLoss(truncate=0.5))()
    traced = []
    per_sample = type(loss).per_sample

    def counted(self, *args):
        traced.append(1)
        return per_sample(self, *args)

    monkeypatch.setattr(type(loss), "per_sample", counted)
    model = compiled_lpl(loss=loss)
    fit(model, stop_after=1)
    # Batches of 24 and a last one of 16 are there from the first epoch on.
    after_first_epoch = len(traced)
    x, y = helpers.data()
    epochs = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: epochs.append(len(traced)))
    model.fit(x, y, batch_size=24, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[count])
    assert after_first_epoch > 0
    assert epochs[0] == epochs[-1], epochs


@pytest.mark.shared_out
@pytest.mark.parametrize("name", LOSSES)
def test_evaluation_is_plain_crossentropy_and_touches_no_state(name):
    x, y = helpers.data()
    model = model_of(name)
    fit(model, stop_after=1)
    before = [ops.convert_to_numpy(weight) for weight in model.weights]
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(plain(y, model.predict(x, verbose=0)))
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-5)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)


@pytest.mark.parametrize("name", LOSSES)
def test_a_plain_model_is_refused_with_the_way_out(name):
    model = helpers.functional()
    model.compile("sgd", loss=LOSSES[name]())
    with pytest.raises(ValueError, match=r"LPLModel\.from_model"):
        model.fit(*helpers.data(), verbose=0)


@pytest.mark.parametrize("way", ["full", "one by one", "one by one, XLA", "diagonal"])
def test_isda_adds_the_spread_of_all_samples_seen(way):
    """One pass at learning rate 0 sees every sample; then the spread is that of NumPy's moments."""
    if "XLA" in way and keras.config.backend() != "tensorflow":
        pytest.skip("only TensorFlow runs with and without XLA")
    covariance = "diagonal" if way == "diagonal" else "full"
    x, y = helpers.data()
    loss = keras_lpl.ISDALoss(strength=0.5, schedule=None, covariance=covariance)
    model = compiled_lpl(
        loss=loss,
        optimizer=keras.optimizers.SGD(0.0),
        jit_compile=True if "XLA" in way else "auto",
    )
    model.fit(x, y, batch_size=10, verbose=0)
    features = keras.Model(model.inputs, model.get_layer("hidden").output)
    features = features.predict(x, verbose=0).astype("float64")
    moments = [np.cov(features[y == c].T, bias=True) for c in range(len(COUNTS))]
    if covariance == "diagonal":
        moments = [np.diag(matrix) for matrix in moments]
    kernel = ops.convert_to_numpy(model.get_layer("head").kernel)
    logits, perturbed = model.perturb_on_batch(x, y)
    expected = reference_perturbations.isda(y, logits, kernel, moments, 0.5)
    np.testing.assert_allclose(perturbed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_isdas_gradient_in_the_kernel_is_that_of_the_equation(covariance):
    """One step of plain SGD shows the gradient; the oracle's comes by finite differences."""
    x, y = helpers.data()
    loss = keras_lpl.ISDALoss(strength=2.0, schedule=None, covariance=covariance)
    model = compiled_lpl(loss=loss, optimizer=keras.optimizers.SGD(1.0))
    head, hidden = model.get_layer("head"), model.get_layer("hidden")
    features = keras.Model(model.inputs, hidden.output).predict(x, verbose=0).astype("float64")
    kernel = ops.convert_to_numpy(head.kernel).astype("float64")
    moments = [np.cov(features[y == c].T, bias=True) for c in range(len(COUNTS))]
    if covariance == "diagonal":
        moments = [np.diag(matrix) for matrix in moments]

    def oracle(kernel):
        changed = reference_perturbations.isda(y, features @ kernel, kernel, moments, 2.0)
        return reference.softmax_crossentropy(y, changed).mean()

    expected = reference.finite_difference_gradient(oracle, kernel)
    model.train_on_batch(x, y)
    step = kernel - ops.convert_to_numpy(head.kernel)
    np.testing.assert_allclose(step, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_isda_grows_with_progress():
    x, y = helpers.data()
    model = compiled_lpl(loss=keras_lpl.ISDALoss(), optimizer=keras.optimizers.SGD(0.0))
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logits, perturbed = model.perturb_on_batch(x, y)
            seen.append(np.abs(perturbed - logits).sum())

    model.fit(x, y, batch_size=32, epochs=4, verbose=0, callbacks=[Look()])
    np.testing.assert_allclose(np.array(seen) / seen[-1], [0.25, 0.5, 0.75, 1.0], rtol=1e-4)


def test_seesaw_counts_what_it_sees_before_the_loss():
    x, y = helpers.data()
    online = compiled_lpl(loss=keras_lpl.SeesawLoss())
    given = compiled_lpl(loss=keras_lpl.SeesawLoss(COUNTS))
    # In one batch, all counts are those of the batch.
    for model in (online, given):
        model.train_on_batch(x, y)
    for one, other in zip(online.trainable_weights, given.trainable_weights, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


DOUBLE = {
    "isda-full": lambda **k: keras_lpl.ISDALoss(schedule=None, **k),
    "isda-diagonal": lambda **k: keras_lpl.ISDALoss(covariance="diagonal", **k),
    "center": lambda **k: keras_lpl.CenterLoss(strength=0.1, **k),
    "large-margin": lambda **k: keras_lpl.LargeMarginLoss(3, annealing=5.0, **k),
    "seesaw": lambda **k: keras_lpl.SeesawLoss(**k),
    "lpl": lambda **k: keras_lpl.LPLLoss(COUNTS, **k),
}


@pytest.mark.shared_out
@pytest.mark.parametrize("name", DOUBLE)
def test_float64_trains_as_float32_does(name):
    x, y = helpers.data()
    soft = (0.9 * np.eye(len(COUNTS))[y] + 0.1 / len(COUNTS)).astype("float32")
    weight = np.linspace(0.5, 1.5, len(y)).astype("float32")
    losses = []
    for dtype in ("float32", "float64"):
        model = compiled_lpl(loss=DOUBLE[name](dtype=dtype))
        of_dtype = model.fit(x, y, batch_size=32, shuffle=False, verbose=0).history["loss"]
        of_soft = model.train_on_batch(x, soft, weight)
        losses.append([*of_dtype, of_soft])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


PEAK = "/proc/self/status"


@pytest.mark.skipif(not Path(PEAK).exists(), reason="peak memory is read from Linux's /proc")
def test_diagonal_isda_of_1000_classes_and_2048_features_fits_into_a_gibibyte():
    code = f"""
import keras, numpy as np, keras_lpl
def peak():  # in MiB, of this process alone
    line = next(line for line in open({PEAK!r}) if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
x = np.random.default_rng(0).normal(size=(64, 2048)).astype("float32")
y = np.arange(64) * 15
inputs = keras.Input((2048,))
model = keras_lpl.LPLModel(inputs, keras.layers.Dense(1000)(inputs))
before = peak()
model.compile("sgd", loss=keras_lpl.ISDALoss(covariance="diagonal"))
for _ in range(3):
    assert np.isfinite(model.train_on_batch(x, y))
print(peak() - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert 0 < float(result.stdout.split()[-1]) < 1024


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="tf.distribute")
@pytest.mark.parametrize("features", [4, 600])  # all classes at once, and one after the other
def test_isda_on_two_replicas(features):
    code = f"""
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np, keras_lpl
x = np.random.default_rng(0).normal(size=(24, {features})).astype("float32")
y = np.arange(24) % 3
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    inputs = keras.Input(({features},))
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", loss=keras_lpl.ISDALoss(schedule=None), jit_compile=False)
loss = model.fit(x, y, batch_size=12, epochs=2, verbose=0).history["loss"]
assert np.all(np.isfinite(loss)), loss
(scatter,) = (weight for weight in model.weights if "scatter" in weight.path)
one, other = (np.asarray(value) for value in scatter.value.values)
assert one.any()
np.testing.assert_array_equal(one, other)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
