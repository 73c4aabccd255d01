"""`LossVariation` against a float64 computation, in a plain model and in `LPLModel`."""

import keras
import numpy as np
import pytest

import keras_lpl
from tests import reference
from tests.models import helpers
from tests.models.helpers import CLASSES, COUNTS


def variation_in_numpy(logits, y, perturb):
    plain, perturbed = np.zeros(CLASSES), np.zeros(CLASSES)
    for c in range(CLASSES):
        mine = y == c
        plain[c] = reference.softmax_crossentropy(y, logits)[mine].sum()
        perturbed[c] = reference.softmax_crossentropy(y, perturb(logits))[mine].sum()
    return (perturbed - plain) / plain


@pytest.mark.parametrize("wrap", [lambda m: m, keras_lpl.LPLModel.from_model], ids=["plain", "lpl"])
def test_records_the_relative_change_of_each_class(wrap):
    x, y = helpers.data()
    model = wrap(helpers.functional())
    model.compile(keras.optimizers.SGD(0.0), loss=keras_lpl.LogitAdjustmentLoss(COUNTS))
    record = keras_lpl.callbacks.LossVariation(x, y, batch_size=64, every=2)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[record])
    assert record.epochs == [2, 4]
    prior = np.log(np.array(COUNTS) / np.sum(COUNTS))
    expected = variation_in_numpy(model.predict(x, verbose=0), y, lambda u: u + prior)
    np.testing.assert_allclose(record.history[-1], expected, rtol=1e-4)
    assert expected[0] < 0 < expected[-1]


def test_takes_batches_and_leaves_out_classes_that_are_not_there():
    x, y = helpers.data()
    keep = y != 4
    x, y = x[keep], y[keep]
    model = helpers.functional()
    model.compile("sgd", loss=keras_lpl.LPLLoss(COUNTS))
    arrays = keras_lpl.callbacks.LossVariation(x, y, batch_size=len(x))
    batches = keras_lpl.callbacks.LossVariation([(x, y, np.ones(len(x), "float32"))])
    model.fit(x, y, verbose=0, callbacks=[arrays, batches])
    np.testing.assert_allclose(arrays.history[0], batches.history[0], rtol=1e-4)
    assert np.isnan(arrays.history[0][4])
    assert np.all(arrays.history[0][:2] < 0)
    assert np.all(arrays.history[0][2:4] > 0)


def test_needs_a_loss_that_perturbs():
    x, y = helpers.data()
    model = helpers.functional()
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"PerturbedCrossentropy.*Received: loss="):
        model.fit(x, y, verbose=0, callbacks=[keras_lpl.callbacks.LossVariation(x, y)])
