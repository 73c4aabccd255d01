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


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX's arrays carry no attributes")
@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_plain_model_that_ends_in_softmax(activation):
    model = compiled_model(activation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data(), epochs=2, verbose=0)
    assert len(messages(caught)) == (1 if activation else 0)


def test_two_corrections_are_told_about():
    model = keras_lpl.LPLModel.from_model(compiled_model(None))
    model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
    with pytest.warns(UserWarning, match="rare classes will be predicted too often"):
        model.fit(*data(), class_weight={0: 1.0, 1: 2.0, 2: 3.0}, verbose=0)
    model.compile("sgd", loss=keras_lpl.LPLLoss())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data(), class_weight={0: 1.0, 1: 2.0, 2: 3.0}, verbose=0)
    assert not [each for each in caught if "too often" in str(each.message)]
