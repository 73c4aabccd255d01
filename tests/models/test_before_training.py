"""What `LPLModel` says before it trains: labels, class weights and other slips."""

import warnings

import keras
import numpy as np
import pytest

import keras_lpl

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = np.repeat([0, 1, 2], [14, 7, 3])
COUNTS = [14, 7, 3]


def model(units=3, loss=None, shape=(4,), **keywords):
    inputs = keras.Input(shape)
    made = keras_lpl.LPLModel(inputs, keras.layers.Dense(units)(inputs))
    made.compile("sgd", loss=loss or keras_lpl.LPLLoss(), **keywords)
    return made


LABELS = {
    "from 1": (Y + 1, r"y\[21\]=3\. .*begin at 1: subtract 1"),
    "padding": (np.where(Y == 2, 255, Y), r"y\[21\]=255.*`ignore_class=255` to the loss and"),
    "negative": (np.where(Y == 2, -1, Y), r"y\[21\]=-1.*`ignore_class=-1`"),
    "one too many": (np.where(Y == 2, 3, Y), r"y\[21\]=3\. Widen the model's head"),
    "names": (np.array(["a", "b", "c"])[Y], "must hold numbers.*np.unique"),
    "multi-hot": (np.ones((24, 3), "float32") * [1, 1, 0], "sum 2.*`multi_label=True`"),
    "a list": ((Y + 1).tolist(), "begin at 1"),
    "a tensor": (keras.ops.convert_to_tensor(Y + 1), "begin at 1"),
}


@pytest.mark.parametrize("case", LABELS)
def test_bad_labels_are_refused_before_training(case):
    labels, message = LABELS[case]
    made = model()
    before = [np.array(w) for w in made.get_weights()]
    with pytest.raises(ValueError, match=message):
        made.fit(X, labels, verbose=0)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_labels_of_padding_may_be_anything():
    words = np.array([[1, 2, 0], [2, 0, 0]])
    tags = np.array([[0, 1, -100], [2, -100, -100]])
    inputs = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(3, 4, mask_zero=True)(inputs)
    made = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(hidden))
    metric = keras_lpl.metrics.BalancedAccuracy()
    made.compile("sgd", loss=keras_lpl.LPLLoss(), metrics=[metric])
    assert np.isfinite(made.fit(words, tags, verbose=0).history["loss"][0])
    # The metric leaves padding out as well.
    logits = made.predict(words, verbose=0)
    right = logits.argmax(axis=-1) == tags
    expected = np.mean([right[tags == c].mean() for c in range(3)])
    score = made.evaluate(words, tags, return_dict=True, verbose=0)["balanced_accuracy"]
    assert score == pytest.approx(expected)


def test_class_weights_where_keras_would_apply_others_than_meant():
    weights = {0: 1.0, 1: 2.0, 2: 3.0}
    several = model(4, keras_lpl.LPLLoss(multi_label=True))
    labels = (np.random.default_rng(1).uniform(size=(24, 4)) < 0.3).astype("int32")
    with pytest.raises(ValueError, match=r"several labels.*DeferredReweighting.*\(None, 4\)"):
        several.fit(X, labels, class_weight=weights, verbose=0)
    dense = model(3, shape=(5, 4))
    with pytest.raises(ValueError, match=r"each pixel or token.*DeferredReweighting"):
        dense.fit(np.ones((2, 5, 4)), np.zeros((2, 5), int), class_weight=weights, verbose=0)
    model().fit(X, Y, class_weight=weights, verbose=0)


@pytest.mark.parametrize(
    ("loss", "warns"),
    [
        (lambda: keras_lpl.LPLLoss(COUNTS), True),
        (lambda: keras_lpl.LogitAdjustmentLoss(COUNTS), True),
        (lambda: keras_lpl.LDAMLoss(COUNTS, scale=1.0), False),  # LDAM-DRW
        (lambda: keras_lpl.LPLLoss(), False),
    ],
    ids=["default", "LA", "LDAM", "confidence"],
)
def test_two_corrections_of_the_same_counts(loss, warns):
    callback = keras_lpl.callbacks.DeferredReweighting(COUNTS, start_epoch=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(loss=loss()).fit(X, Y, callbacks=[callback], verbose=0)
    told = [str(each.message) for each in caught if "too often" in str(each.message)]
    assert len(told) == warns
    assert not told or "`DeferredReweighting`" in told[0]


def test_logits_for_a_loss_of_probabilities():
    loss = keras_lpl.LPLLoss(from_logits=False)
    with pytest.raises(ValueError, match=r"takes probabilities.*values from -3 to 4"):
        loss(np.array([0, 1]), np.array([[4.0, -3.0], [0.0, 1.0]], "float32"))
    good = np.array([[0.9, 0.1], [0.3, 0.7]], "float32")
    assert np.isfinite(float(loss(np.array([0, 1]), good)))


def test_a_perturbation_that_returns_nothing():
    class Forgotten(keras_lpl.perturbations.Perturbation):
        def __call__(self, samples, context):
            samples.logits + 1.0

    with pytest.raises(ValueError, match=r"`Forgotten` must return the perturbed logits.*None"):
        keras_lpl.PerturbedCrossentropy([Forgotten()])(Y[:2], X[:2, :3])
    with pytest.raises(ValueError, match="must return") as caught:
        keras_lpl.testing.check_perturbation(Forgotten)
    assert "law `" in caught.value.__notes__[0]


def test_models_in_the_wrong_place():
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(TypeError, match=r"from_model\(model\)`.*Received: 'sequential"):
        keras_lpl.LPLModel(plain)
    with pytest.raises(TypeError, match=r"takes a Keras model.*of type Dense"):
        keras_lpl.LPLModel.from_model(keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"no output of that name: it has \['.*Received: .*'knid'"):
        model().perturb_on_batch(X, Y, output="knid")
