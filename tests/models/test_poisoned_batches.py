"""What a batch holds that is no number costs its own row, never the model or its statistics.

Of a NaN in the input itself, which any layer's gradient multiplies, no loss can keep a model clean.
"""

import keras
import numpy as np
import pytest

import keras_lpl
from keras_lpl import engines
from tests.models import helpers

CLASSES, SIZE = 4, 24
COUNTS = [9, 6, 5, 4]
LOSSES = {
    "lpl": lambda: keras_lpl.LPLLoss(COUNTS),
    "lpl-confidence": lambda: keras_lpl.LPLLoss(),
    "isda-full": lambda: keras_lpl.ISDALoss(schedule=None),
    "isda-diagonal": lambda: keras_lpl.ISDALoss(schedule=None, covariance="diagonal"),
    "seesaw": lambda: keras_lpl.SeesawLoss(),
    "center": lambda: keras_lpl.CenterLoss(strength=0.1),
    "large-margin": lambda: keras_lpl.LargeMarginLoss(2, annealing=1.0),
}
METHODS = {
    "meta-weight-net": (keras_lpl.models.MetaWeightNet, lambda: keras_lpl.LPLLoss(COUNTS)),
    "reweight": (keras_lpl.models.LearningToReweight, lambda: keras_lpl.LPLLoss(COUNTS)),
    "meta-saug": (keras_lpl.models.MetaSAug, LOSSES["isda-full"]),
}
# The input is what the last layer reads. Features of 1e15 count as infinite, logits of 1e30.
HUGE_FEATURES, HUGE_LOGITS = [1e16, 1e20, 3e38, -3e38], [1e36, -1e36, 3e38, -3e38]
READ_FEATURES = ("isda-full", "isda-diagonal", "center", "large-margin", "meta-saug")
BAD_WEIGHTS = [np.nan, np.inf, -np.inf, 3e38]


def model_of(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    outputs = keras.layers.Dense(CLASSES)(inputs)
    if name in METHODS:
        method, make_loss = METHODS[name]
        balanced = np.eye(CLASSES, 5, dtype="float32"), np.arange(CLASSES)
        model = keras_lpl.models.MetaModel(inputs, outputs, method=method(), meta_data=balanced)
    else:
        model, make_loss = keras_lpl.LPLModel(inputs, outputs), LOSSES[name]
    model.compile(keras.optimizers.SGD(0.1), loss=make_loss())
    return model


def batch(name, soft):
    """`(x, y, sample_weight, is_bad)`: clean but for the bad rows, which come first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SIZE, 5)).astype("float32")
    y, weight = np.arange(SIZE) % CLASSES, np.ones(SIZE, "float32")
    x[:4, 0] = HUGE_FEATURES if name in READ_FEATURES else HUGE_LOGITS
    weight[4:8] = BAD_WEIGHTS
    num_bad = 8
    if soft:
        y = (0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES).astype("float32")
    if engines.compiles():  # code that is not compiled raises
        num_bad = 11
        if soft:
            y[8, 1], y[9, 2], y[10] = np.nan, np.inf, 1.0
        else:
            y[8:11] = [-1, CLASSES, 2**31 - 1]
    return x, y, weight, np.arange(SIZE) < num_bad


@pytest.mark.shared_out
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "soft"])
@pytest.mark.parametrize("name", [*LOSSES, *METHODS])
def test_a_poisoned_row_changes_nothing_but_the_loss(name, soft):
    model = model_of(name)
    x, y, weight, is_bad = batch(name, soft)
    model.train_on_batch(x[-CLASSES:], y[-CLASSES:], weight[-CLASSES:])  # statistics begin
    before = model.get_weights()
    assert np.isnan(helpers.loss_of_step(model, x, y, weight))
    poisoned = model.get_weights()

    model.set_weights(before)
    y = y.copy()
    y[is_bad] = y[-is_bad.sum() :]
    loss = helpers.loss_of_step(
        model, np.where(is_bad[:, None], 0, x), y, np.where(is_bad, 0, weight).astype("float32")
    )
    assert np.isfinite(loss)
    for one, other, variable in zip(poisoned, model.get_weights(), model.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=variable.path)
        assert np.all(np.isfinite(one)), variable.path


@pytest.mark.parametrize("name", READ_FEATURES)
def test_rows_of_weight_0_may_be_huge(name):
    model = model_of(name)
    x, _, _, _ = batch(name, soft=False)
    y, weight = np.arange(SIZE) % CLASSES, (np.arange(SIZE) >= len(HUGE_FEATURES))
    assert np.isfinite(model.train_on_batch(x, y, weight.astype("float32")))
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        assert np.all(np.isfinite(value)), variable.path
