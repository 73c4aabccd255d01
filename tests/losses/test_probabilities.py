"""A softmax before a loss of logits is told about, once."""

import warnings

import keras
import numpy as np
import pytest

import keras_lpl

COUNTS = (20, 8, 4)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 4)).astype("float32"), np.arange(16) % 3


def compiled_model(activation):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=activation)])
    model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
    return model


def messages(caught):
    return [str(each.message) for each in caught if "takes logits" in str(each.message)]


def test_probabilities_are_told_about_once():
    labels = np.array([0, 1, 2, 0])
    probabilities = np.full((4, 3), 1 / 3, "float32")
    loss = keras_lpl.LogitAdjustmentLoss(COUNTS)
    with pytest.warns(UserWarning, match="`LogitAdjustmentLoss` takes logits.*from_logits=False"):
        loss(labels, probabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(labels, probabilities)
        keras_lpl.LogitAdjustmentLoss(COUNTS, from_logits=False)(labels, probabilities)
        keras_lpl.LogitAdjustmentLoss(COUNTS)(labels, probabilities + 1)
        # One unit between 0 and 1 may well be a logit.
        keras_lpl.LogitAdjustmentLoss(COUNTS[:2])(labels % 2, probabilities[:, :1])


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", None])
def test_a_plain_model_that_ends_in_softmax(activation):
    model = compiled_model(activation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data(), epochs=2, verbose=0)
    assert len(messages(caught)) == (activation == "softmax")


def test_a_plain_model_that_ends_in_sigmoid():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS[:2]))
    x, y = data()
    with pytest.warns(UserWarning, match="takes logits"):
        model.fit(x, y > 0, verbose=0)


def test_a_logarithm_of_softmax_is_logits():
    model = keras_lpl.LPLModel.from_model(compiled_model("log_softmax"))
    model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
    x, y = data()
    logits = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    loss = keras_lpl.LogitAdjustmentLoss(COUNTS)
    expected = float(loss(y, logits))
    assert float(loss(y, keras.ops.log_softmax(logits))) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(model.train_on_batch(x, y))


WEIGHTS = {0: 1.0, 1: 2.0, 2: 3.0}


def corrections(caught):
    return [each for each in caught if "rare classes will be predicted too" in str(each.message)]


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "LPLModel"])
@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_two_corrections_are_told_about(wrapped, method):
    model = compiled_model(None)
    if wrapped:
        model = keras_lpl.LPLModel.from_model(model)
        model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
    keywords = {"verbose": 0} if method == "fit" else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, method)(*data(), class_weight=WEIGHTS, **keywords)
    assert len(corrections(caught)) == 1


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "LPLModel"])
def test_one_correction_is_not_told_about(wrapped):
    model = compiled_model(None)
    model = keras_lpl.LPLModel.from_model(model) if wrapped else model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
        model.fit(*data(), sample_weight=np.ones(16), verbose=0)
        model.compile("sgd", loss=keras_lpl.LPLLoss())
        model.fit(*data(), class_weight=WEIGHTS, verbose=0)
    assert not corrections(caught)
