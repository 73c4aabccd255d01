"""`CosineDense` and `PostHocLogitAdjustment`, alone and through models."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests.models import helpers


def test_cosine_dense_is_the_cosine():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 5)).astype("float32")
    head = keras_lpl.layers.CosineDense(3, scale=2.0)
    outputs = ops.convert_to_numpy(head(x))
    kernel = ops.convert_to_numpy(head.kernel)
    for i in range(7):
        for c in range(3):
            w = kernel[:, c].astype("float64")
            # In units of the scale: a cosine near 0 is a sum that cancels.
            cosine = x[i] @ w / (np.linalg.norm(x[i]) * np.linalg.norm(w))
            np.testing.assert_allclose(outputs[i, c], 2 * cosine, rtol=1e-5, atol=1e-6)
    scaled = ops.convert_to_numpy(head(100 * x))
    np.testing.assert_allclose(scaled, outputs, rtol=1e-5, atol=1e-6)
    assert np.all(np.isfinite(ops.convert_to_numpy(head(np.zeros((1, 5), "float32")))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"units": 0}, "`units`"), ({"units": 3, "scale": 0.0}, "`scale`")],
)
def test_cosine_dense_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_lpl.layers.CosineDense(**arguments)


def test_a_model_with_a_cosine_head_is_saved_and_loaded(tmp_path):
    x, _ = helpers.data()
    inputs = keras.Input((6,))
    head = keras_lpl.layers.CosineDense(5, scale=3.0, kernel_regularizer=keras.regularizers.L2(0.1))
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(x, verbose=0), model.predict(x, verbose=0))
    assert len(restored.losses) == 1


def test_ldam_warns_of_a_head_that_is_not_normalised():
    loss = keras_lpl.LDAMLoss(helpers.COUNTS)
    model = keras_lpl.LPLModel.from_model(helpers.functional())
    with pytest.warns(UserWarning, match="CosineDense.*'head' of type Dense"):
        model.compile("sgd", loss=loss)


def test_ldam_is_content_with_a_cosine_head(recwarn):
    inputs = keras.Input((6,))
    model = keras_lpl.LPLModel(inputs, keras_lpl.layers.CosineDense(5)(inputs))
    model.compile("sgd", loss=keras_lpl.LDAMLoss(helpers.COUNTS))
    assert not [warning for warning in recwarn if "CosineDense" in str(warning.message)]


@pytest.mark.parametrize("name", ["ISDA", "LargeMargin"])
def test_methods_for_linear_logits_warn_of_a_cosine_head(name):
    inputs = keras.Input((6,))
    model = keras_lpl.LPLModel(inputs, keras_lpl.layers.CosineDense(5)(inputs))
    perturbation = getattr(keras_lpl.perturbations, name)()
    with pytest.warns(UserWarning, match=rf"{name} .*ends in 'cosine_dense.*' of type CosineDense"):
        model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([perturbation]))


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed", "lpl"])
def test_post_hoc_adjustment(kind, tmp_path):
    x, y = helpers.data()
    if kind == "lpl":
        model = helpers.compiled_lpl()
    else:
        model = {
            "functional": helpers.functional,
            "sequential": helpers.sequential,
            "subclassed": helpers.Subclassed,
        }[kind]()
    logits = model.predict(x, verbose=0)
    adjusted = keras_lpl.models.with_logit_adjustment(model, helpers.COUNTS, tau=1.5)
    counts = np.array(helpers.COUNTS)
    expected = logits - 1.5 * np.log(counts / counts.sum())
    np.testing.assert_allclose(adjusted.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)

    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adjusted.compile(loss=crossentropy, metrics=[keras_lpl.metrics.BalancedAccuracy()])
    assert np.isfinite(adjusted.evaluate(x, y, verbose=0)[1])
    adjusted.save(tmp_path / "adjusted.keras")
    restored = keras.saving.load_model(tmp_path / "adjusted.keras")
    np.testing.assert_allclose(restored.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)


def test_post_hoc_adjustment_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="4 entries for logits of shape"):
        keras_lpl.models.with_logit_adjustment(helpers.functional(), [4, 3, 2, 1])
    model = helpers.functional(activation="softmax")
    with pytest.raises(ValueError, match="this model ends in probabilities"):
        keras_lpl.models.with_logit_adjustment(model, helpers.COUNTS)
    for loss in (
        keras_lpl.LogitAdjustmentLoss,
        keras_lpl.VSLoss,
        keras_lpl.LPLLoss,
        keras_lpl.ClassBalancedLoss,
    ):
        model = helpers.compiled_lpl(loss=loss(helpers.COUNTS))
        with pytest.warns(UserWarning, match="counts it twice"):
            keras_lpl.models.with_logit_adjustment(model, helpers.COUNTS)


@pytest.mark.parametrize("loss", [lambda c: keras_lpl.LogitAdjustmentLoss(c, tau=0.0), None])
def test_a_loss_that_leaves_the_prior_in_is_not_warned_of(loss):
    model = helpers.compiled_lpl(loss=None if loss is None else loss(helpers.COUNTS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        keras_lpl.models.with_logit_adjustment(model, helpers.COUNTS)
