"""`LPLModel` through `fit`, `evaluate`, `predict`, save and load, on the backend that runs."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests import reference
from tests.models import helpers
from tests.models.helpers import (
    CLASSES,
    COUNTS,
    assert_same_weights,
    compiled_lpl,
    confidence,
)

PLAIN = keras_lpl.PerturbedCrossentropy([])


def losses():
    """Makers of losses, by name."""
    return {
        "lpl-confidence": lambda: keras_lpl.LPLLoss(),
        "lpl-frequency": lambda: keras_lpl.LPLLoss(COUNTS, bound="ratio"),
        "lpl-default": lambda: keras_lpl.LPLLoss(COUNTS),
        "la+lpl": lambda: keras_lpl.LPLLoss(COUNTS, logit_adjustment=1.0, bound="ratio"),
        "la": lambda: keras_lpl.LogitAdjustmentLoss(COUNTS),
    }


def each_loss(function):
    return pytest.mark.parametrize("loss", losses().values(), ids=losses().keys())(function)


BASES = {
    "functional": lambda: helpers.functional(),
    "sequential": lambda: helpers.sequential(),
    "subclassed": lambda: _built(helpers.Subclassed()),
}


def _built(model):
    model(np.zeros((1, 6), "float32"))
    return model


# --- Training ---------------------------------------------------------------------------------


@each_loss
@pytest.mark.shared_out
def test_fit_learns_and_validation_is_plain_crossentropy(loss):
    x, y = helpers.data()
    model = compiled_lpl(loss=loss(), metrics=["accuracy"])
    history = model.fit(x, y, batch_size=16, epochs=6, verbose=0, validation_data=(x, y)).history
    assert history["loss"][-1] < history["loss"][0]
    logits = model.predict(x, verbose=0)
    assert logits.shape == (64, CLASSES)
    plain = reference.softmax_crossentropy(y, logits).mean()
    assert history["val_loss"][-1] == pytest.approx(plain, rel=1e-5)
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(plain, rel=1e-5)


def test_training_loss_is_that_of_perturbed_logits():
    x, y = helpers.data()
    model = compiled_lpl(
        loss=keras_lpl.LPLLoss(COUNTS, bound="ratio"), optimizer=keras.optimizers.SGD(0.0)
    )
    logits = model.predict(x, verbose=0)
    direction = reference.split_by_frequency(COUNTS, 0.4)
    steps = reference.num_steps(reference.bound_by_frequency(COUNTS, 0.4, 0.0, 2.5), 0.1)
    expected = reference.lpl_loss(y, logits, direction, steps, 0.1).mean()
    trained = model.fit(x, y, batch_size=64, verbose=0).history["loss"][0]
    assert trained == pytest.approx(expected, rel=1e-5)


def test_confidence_runs_over_training_and_decides_the_split():
    x, y = helpers.data()
    model = compiled_lpl(optimizer=keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(confidence(model), 1 / CLASSES)
    logits = model.predict(x, verbose=0)
    expected, seen = np.zeros(CLASSES), np.zeros(CLASSES)
    for part in np.split(np.arange(64), 8):
        model.train_on_batch(x[part], y[part])
        batch, weight = reference.class_confidence(y[part], logits[part])
        kept = np.where(weight > 0, 0.9, 1.0)
        expected, seen = kept * expected + batch * weight, kept * seen + weight
    expected = expected / np.maximum(seen, 1e-12)
    np.testing.assert_allclose(confidence(model), expected, rtol=1e-5)

    direction = reference.split_by_confidence(expected, "mean")
    bound = reference.bound_by_confidence(expected, "mean", 0.2, 0.2)
    steps = reference.num_steps(bound, 0.02)
    part = np.arange(8)
    _, perturbed = model.perturb_on_batch(x[part], y[part])
    reference_perturbed = reference.perturb_logits(y[part], logits[part], direction, steps, 0.02)
    np.testing.assert_allclose(perturbed, reference_perturbed, rtol=1e-4, atol=1e-5)


def test_a_class_that_never_occurs_keeps_its_confidence():
    x, y = helpers.data()
    keep = y != 4
    model = compiled_lpl()
    model.fit(x[keep], y[keep], batch_size=16, epochs=2, verbose=0)
    assert confidence(model)[4] == pytest.approx(1 / CLASSES)
    assert np.all(confidence(model)[:4] != pytest.approx(1 / CLASSES))


def test_evaluation_touches_no_state():
    x, y = helpers.data()
    model = compiled_lpl()
    model.fit(x, y, verbose=0)
    before = [ops.convert_to_numpy(v).copy() for v in model.weights]
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    model.perturb_on_batch(x, y)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_nan_logits_give_a_nan_loss_and_do_not_poison_the_statistics():
    # No relu: TensorFlow's, fused into a dense layer, makes 0 of NaN.
    x, y = helpers.data()
    model = compiled_lpl(helpers.sequential(), optimizer=keras.optimizers.SGD(0.0))
    model.fit(x, y, batch_size=16, verbose=0)
    before = confidence(model)
    bad = x.copy()
    bad[:] = np.nan
    assert np.isnan(model.train_on_batch(bad, y))
    np.testing.assert_array_equal(confidence(model), before)


def test_terminate_on_nan_stops():
    x, y = helpers.data()
    x[3] = np.inf
    model = compiled_lpl(helpers.sequential())
    history = model.fit(
        x, y, batch_size=64, epochs=3, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    assert len(history.history["loss"]) == 1


# --- Nothing of Keras's own training step is lost ---------------------------------------------


def _trained_weights(model, **fit_keywords):
    x, y = helpers.data()
    keras.utils.set_random_seed(3)
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, **fit_keywords)
    return [ops.convert_to_numpy(w) for w in model.trainable_weights], history.history


def _assert_trains_like_keras(build, compile_keywords=None, fit_keywords=None):
    """With nothing to perturb, `LPLModel` must do exactly what `keras.Model` does."""
    results = []
    for wrap in (lambda model: model, keras_lpl.LPLModel.from_model):
        keras.utils.set_random_seed(2)
        model = wrap(build())
        keywords = {"optimizer": keras.optimizers.Adam(0.02), **(compile_keywords or {})}
        keywords["optimizer"] = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(keywords["optimizer"])
        )
        model.compile(loss=PLAIN, metrics=["accuracy"], **keywords)
        results.append(_trained_weights(model, **(fit_keywords or {})))
    (plain, plain_history), (ours, our_history) = results
    for one, other in zip(plain, ours, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert plain_history.keys() == our_history.keys()
    np.testing.assert_allclose(plain_history["loss"], our_history["loss"], rtol=1e-5)


def _with_regularizers_and_add_loss():
    @keras.saving.register_keras_serializable("keras_lpl_tests")
    class Extra(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(0.01 * ops.sum(ops.square(inputs)))
            return inputs

    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs)
    x = keras.layers.Dropout(0.3, seed=5)(keras.layers.BatchNormalization()(Extra()(x)))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activity_regularizer="l2")(x))


def test_keeps_regularizers_add_loss_dropout_and_batch_norm():
    _assert_trains_like_keras(_with_regularizers_and_add_loss)


@pytest.mark.shared_out
def test_keeps_sample_and_class_weights():
    weight = np.linspace(0, 2, 64).astype("float32")
    _assert_trains_like_keras(helpers.functional, fit_keywords={"sample_weight": weight})
    class_weight = {0: 0.5, 1: 1.0, 2: 2.0, 3: 4.0, 4: 8.0}
    _assert_trains_like_keras(helpers.functional, fit_keywords={"class_weight": class_weight})


def test_keeps_loss_scaling():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0)
    _assert_trains_like_keras(helpers.functional, {"optimizer": scaled})


def test_keeps_loss_weights():
    _assert_trains_like_keras(helpers.functional, {"loss_weights": 0.5})


@pytest.mark.parametrize("option", ["run_eagerly", "steps_per_execution", "jit_compile"])
def test_compile_options(option):
    if keras.config.backend() == "torch" and option != "run_eagerly":
        pytest.skip("torch.compile takes a C++ compiler and minutes; steps_per_execution must be 1")
    x, y = helpers.data()
    value = {"run_eagerly": True, "steps_per_execution": 2, "jit_compile": True}[option]
    default, optioned = compiled_lpl(), compiled_lpl(**{option: value})
    for model in (default, optioned):
        model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    assert_same_weights(default, optioned, rtol=1e-4)


def test_class_weights_reach_the_loss_but_not_the_push():
    """A weight per class leaves class means alone, so each class is pushed as before."""
    x, y = helpers.data()
    model = compiled_lpl(optimizer=keras.optimizers.SGD(0.0))
    unweighted = model.fit(x, y, batch_size=64, verbose=0).history["loss"][0]
    same = dict.fromkeys(range(CLASSES), 2.0)
    doubled = model.fit(x, y, batch_size=64, verbose=0, class_weight=same).history["loss"][0]
    assert doubled == pytest.approx(2 * unweighted, rel=1e-5)


def test_zero_weight_samples_do_not_enter_the_confidence():
    x, y = helpers.data()
    weight = (np.arange(64) < 48).astype("float32")
    confidences = []
    for scale in (1.0, 50.0):
        model = compiled_lpl()
        x[48:] *= scale
        model.fit(x, y, sample_weight=weight, batch_size=64, verbose=0)
        confidences.append(confidence(model))
    np.testing.assert_allclose(*confidences, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_low_precision_policies(policy):
    x, y = helpers.data()
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled_lpl(loss=keras_lpl.LPLLoss(COUNTS, logit_adjustment=0.5))
        before = [ops.convert_to_numpy(ops.cast(w, "float32")) for w in model.trainable_weights]
        history = model.fit(x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x, y))
    finally:
        keras.config.set_dtype_policy(previous)
    assert np.all(np.isfinite(history.history["loss"] + history.history["val_loss"]))
    after = [ops.convert_to_numpy(ops.cast(w, "float32")) for w in model.trainable_weights]
    assert all(np.any(a != b) for a, b in zip(after, before, strict=True))
    assert keras.backend.standardize_dtype(model.confidence.dtype) == "float32"


def test_soft_labels_through_fit():
    x, y = helpers.data()
    one_hot = np.eye(CLASSES, dtype="float32")[y]
    smoothed = 0.9 * one_hot + 0.1 / CLASSES
    hard, soft, smooth = compiled_lpl(), compiled_lpl(), compiled_lpl()
    for model, labels in ((hard, y), (soft, one_hot), (smooth, smoothed)):
        model.fit(x, labels, batch_size=16, shuffle=False, verbose=0)
    assert_same_weights(hard, soft, rtol=1e-4)
    assert np.isfinite(smooth.evaluate(x, smoothed, verbose=0))


# --- Functional, Sequential, subclassed --------------------------------------------------------


@pytest.mark.shared_out
@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
def test_from_model_shares_layers(base):
    x, y = helpers.data()
    model = base()
    before = model.predict(x, verbose=0)
    wrapped = keras_lpl.LPLModel.from_model(model)
    assert isinstance(wrapped, keras_lpl.LPLModel)
    np.testing.assert_array_equal(wrapped.predict(x, verbose=0), before)
    wrapped.compile("sgd", loss=keras_lpl.LPLLoss())
    wrapped.fit(x, y, verbose=0)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), wrapped.predict(x, verbose=0), rtol=1e-6
    )
    assert not np.allclose(model.predict(x, verbose=0), before)


def test_from_model_keeps_a_dict_of_inputs():
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    joined = keras.layers.Concatenate()([inputs["b"], inputs["a"]])
    base = keras.Model(inputs, keras.layers.Dense(CLASSES)(joined))
    model = keras_lpl.LPLModel.from_model(base)
    model.compile("sgd", loss=keras_lpl.LPLLoss())
    x, y = helpers.data()
    x = {"a": x[:, :3], "b": x[:, 3:5]}
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), base.predict(x, verbose=0))


@pytest.mark.shared_out
@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("functional", name) for name in losses()), ("sequential", "la"), ("subclassed", "la+lpl")],
)
def test_save_load_continue(kind, name, tmp_path):
    """The restored model's next steps are those of the one that went on."""
    x, y = helpers.data()
    keras.utils.set_random_seed(1)
    model = keras_lpl.LPLModel.from_model(BASES[kind]())
    model.compile(keras.optimizers.Adam(0.01), loss=losses()[name]())
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    restored = keras.saving.load_model(path)
    assert type(restored) is type(model)
    np.testing.assert_array_equal(confidence(restored), confidence(model))
    for _ in range(2):
        expected = helpers.loss_of_step(model, x, y)
        assert helpers.loss_of_step(restored, x, y) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(confidence(restored), confidence(model), rtol=1e-6)
    assert restored.evaluate(x, y, verbose=0) == pytest.approx(
        model.evaluate(x, y, verbose=0), rel=1e-6
    )


def test_save_and_load_weights_only(tmp_path):
    x, y = helpers.data()
    model, other = compiled_lpl(), compiled_lpl()
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(confidence(other), confidence(model))
    np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))


def test_subclassing_in_the_functional_style():
    x, y = helpers.data()
    model = helpers.BuiltInside()
    model.compile("sgd", loss=keras_lpl.LPLLoss())
    model.fit(x, y, verbose=0)
    assert confidence(model).shape == (CLASSES,)


def test_subclassing_with_a_call_is_refused():
    with pytest.raises(TypeError, match=r"from_model\(model\).*Received: .*WithCall"):
        helpers.WithCall()


def test_other_losses_train_as_in_keras():
    x, y = helpers.data()
    model = keras_lpl.LPLModel.from_model(helpers.functional())
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="a loss that perturbs"):
        model.perturb_on_batch(x, y)


def test_recompiling_goes_on_with_the_running_confidence():
    x, y = helpers.data()
    model = compiled_lpl()
    model.fit(x, y, verbose=0)
    before = confidence(model)
    model.compile("sgd", loss=keras_lpl.LPLLoss(COUNTS))
    np.testing.assert_array_equal(confidence(model), before)


# --- Refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        lambda x: keras.layers.Dense(CLASSES, activation="softmax")(x),
        lambda x: keras.layers.Softmax()(keras.layers.Dense(CLASSES)(x)),
        lambda x: keras.layers.Activation("softmax", dtype="float32")(keras.layers.Dense(5)(x)),
        lambda x: ops.softmax(keras.layers.Dense(CLASSES)(x)),
        lambda x: keras.layers.Dense(CLASSES, activation="sigmoid")(x),
        lambda x: keras.layers.Activation("linear")(
            keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="softmax")])(x)
        ),
    ],
)
def test_probabilities_are_refused(end):
    inputs = keras.Input((6,))
    model = keras_lpl.LPLModel(inputs, end(inputs))
    with pytest.raises(ValueError, match=r"needs logits.*Received: activation"):
        model.compile("sgd", loss=keras_lpl.LPLLoss())


def test_linear_activation_is_no_probability():
    inputs = keras.Input((6,))
    logits = keras.layers.Dense(CLASSES)(inputs)
    model = keras_lpl.LPLModel(inputs, keras.layers.Activation("linear", dtype="float32")(logits))
    model.compile("sgd", loss=keras_lpl.LPLLoss())


def test_shapes_that_are_no_logits_are_refused():
    inputs = keras.Input((6,))
    model = keras_lpl.LPLModel(inputs, keras.layers.Lambda(lambda x: x[:, 0])(inputs))
    with pytest.raises(ValueError, match=r"must be logits of shape.*Received: an output of shape"):
        model.compile("sgd", loss=keras_lpl.LPLLoss())


def test_from_model_needs_a_built_model():
    with pytest.raises(ValueError, match=r"Call the model on a batch.*Received: .*built=False"):
        keras_lpl.LPLModel.from_model(helpers.Subclassed())
    with pytest.raises(ValueError, match="built=False"):
        keras_lpl.LPLModel.from_model(keras.Sequential([keras.layers.Dense(3)]))


def test_sequential_models_train_without_warnings(recwarn):
    x, y = helpers.data()
    model = keras_lpl.LPLModel.from_model(helpers.sequential())
    model.compile("sgd", loss=keras_lpl.LPLLoss())
    model.train_on_batch(x, y)
    model.predict_on_batch(x)
    assert [w for w in recwarn if "structure" in str(w.message)] == []


def test_schedules_need_progress_outside_of_fit():
    x, y = helpers.data()
    model = keras_lpl.LPLModel.from_model(helpers.functional())
    model.compile("sgd", loss=keras_lpl.ISDALoss(0.5))
    with pytest.warns(UserWarning, match=r"`ISDALoss` follows a schedule.*set_progress"):
        model.train_on_batch(x, y)
    model.set_progress(0.5)
    progress = model.statistics.get("progress")
    model.train_on_batch(x, y)
    assert float(ops.convert_to_numpy(progress.value)) == 0.5
    with pytest.raises(ValueError, match="`progress`"):
        model.set_progress(1.5)
    model.compile("sgd", loss=keras_lpl.LPLLoss())
    with pytest.raises(ValueError, match="Nothing of this model follows a schedule"):
        model.set_progress(0.5)


@pytest.mark.on_one_backend
def test_old_file_formats_are_refused(tmp_path):
    model = keras_lpl.LPLModel.from_model(helpers.functional())
    with pytest.raises(ValueError, match=r"running statistics.*model\.keras"):
        model.save(tmp_path / "model.h5")
