"""The interface carries features, kernel, running statistics and progress."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests.models import helpers
from tests.models.helpers import CLASSES, COUNTS, compiled_lpl, loss_of_step
from tests.models.stateful import SmallISDA


def isda(strength=0.5, *others):
    return keras_lpl.PerturbedCrossentropy([SmallISDA(strength), *others])


def features_of(model, x):
    twin = keras.Model(model.inputs, model.get_layer("hidden").output)
    return twin.predict(x, verbose=0)


def test_statistics_are_those_of_all_samples_seen():
    x, y = helpers.data()
    model = compiled_lpl(loss=isda(), optimizer=keras.optimizers.SGD(0.0))
    model.fit(x, y, batch_size=10, epochs=1, verbose=0)  # batches of different composition
    statistic = model.statistics.get("variance")
    features = features_of(model, x).astype("float64")
    for c in range(CLASSES):
        of_class = features[y == c]
        np.testing.assert_allclose(ops.convert_to_numpy(statistic.mean)[c], of_class.mean(0), 1e-4)
        np.testing.assert_allclose(
            ops.convert_to_numpy(statistic.variance)[c], of_class.var(0), rtol=1e-3, atol=1e-5
        )


def test_loss_is_the_formula_on_features_kernel_statistics_and_progress():
    x, y = helpers.data()
    model = compiled_lpl(loss=isda(), optimizer=keras.optimizers.SGD(0.0))
    losses = model.fit(x, y, batch_size=64, epochs=4, verbose=0).history["loss"]
    logits, features = model.predict(x, verbose=0), features_of(model, x)
    kernel = ops.convert_to_numpy(model.get_layer("head").kernel)
    variance = np.stack([features[y == c].var(0) for c in range(CLASSES)])
    spread = np.zeros((64, CLASSES))
    for i in range(64):
        for c in range(CLASSES):
            difference = kernel[:, c] - kernel[:, y[i]]
            spread[i, c] = np.sum(variance[y[i]] * difference**2)
    for epoch, loss in enumerate(losses):
        perturbed = logits + epoch / 4 * 0.5 / 2 * spread
        shifted = perturbed - perturbed.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        assert loss == pytest.approx(-log_p[np.arange(64), y].mean(), rel=1e-4)


def test_progress_counts_steps_and_epochs():
    x, y = helpers.data()
    model = compiled_lpl(loss=isda())
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(float(ops.convert_to_numpy(self.model.statistics.get("progress").value)))

    model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Look()])
    np.testing.assert_allclose(seen, [0.25, 0.5, 0.75, 1.0], rtol=1e-5)
    seen.clear()
    model.fit(x, y, batch_size=16, epochs=4, initial_epoch=2, verbose=0, callbacks=Look())
    np.testing.assert_allclose(seen, [0.75, 1.0], rtol=1e-5)


def test_gradients_flow_through_the_kernel_but_not_through_the_statistics():
    """With labels of one class and frozen features, only the spread moves the kernel."""
    x, y = helpers.data()
    plain, spread = (
        compiled_lpl(loss=isda(s), optimizer=keras.optimizers.SGD(0.1)) for s in (0, 8)
    )
    for model in (plain, spread):
        model.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    one, other = (ops.convert_to_numpy(m.get_layer("head").kernel) for m in (plain, spread))
    assert np.abs(one - other).max() > 1e-3
    assert np.isfinite(other).all()


def test_evaluation_and_prediction_need_no_features():
    x, y = helpers.data()
    model = compiled_lpl(loss=isda())
    model.fit(x, y, verbose=0, validation_data=(x, y))
    assert model.predict(x, verbose=0).shape == (64, CLASSES)


def test_state_is_saved_restored_and_training_goes_on(tmp_path):
    x, y = helpers.data()
    model = compiled_lpl(loss=isda(0.5, keras_lpl.perturbations.LPL(COUNTS)))
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    for name in ("mean", "variance", "count"):
        one, other = (
            ops.convert_to_numpy(getattr(m.statistics.get("variance"), name))
            for m in (model, restored)
        )
        assert np.any(one != 0)
        np.testing.assert_array_equal(one, other)
    for _ in range(2):
        expected = loss_of_step(model, x, y)
        assert loss_of_step(restored, x, y) == pytest.approx(expected, rel=1e-6)


def test_the_twin_has_no_weights_of_its_own():
    model = compiled_lpl(loss=isda())
    plain = compiled_lpl()
    sizes = [sum(np.prod(w.shape, dtype=int) for w in each.weights) for each in (model, plain)]
    assert sizes[0] - sizes[1] == 2 * CLASSES * 8 + CLASSES + 2
    assert len(model.trainable_weights) == 4


def test_a_float32_cast_after_the_head_is_seen_through():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    logits = keras.layers.Dense(CLASSES)(hidden)
    outputs = keras.layers.Activation("linear", dtype="float32")(logits)
    model = compiled_lpl(keras.Model(inputs, outputs), loss=isda())
    x, y = helpers.data()
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])


def test_a_plain_model_is_told_to_use_lpl_model():
    x, y = helpers.data()
    model = helpers.functional()
    model.compile("sgd", loss=isda())
    with pytest.raises(ValueError, match=r"SmallISDA needs .*features.*LPLModel.*Received"):
        model.fit(x, y, verbose=0)


def test_a_head_out_of_reach_is_refused():
    inputs = keras.Input((6,))
    nested = keras.Model(inputs, helpers.functional()(inputs))
    model = keras_lpl.LPLModel.from_model(nested)
    with pytest.raises(ValueError, match=r"nested model. Received: .*ending in 'head'"):
        model.compile("sgd", loss=isda())


def test_an_unknown_need_is_refused():
    class Wrong(keras_lpl.perturbations.Perturbation):
        needs = ("gradients",)

    model = keras_lpl.LPLModel.from_model(helpers.functional())
    with pytest.raises(ValueError, match="Received: 'gradients'"):
        model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([Wrong()]))
