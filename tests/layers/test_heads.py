"""`CosineDense` and `PostHocLogitAdjustment`, alone and through models."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.models.best_tau import TAUS
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


@pytest.mark.shared_out
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


def biased(classes=3):
    """Logits that are the inputs, and data whose labels they tell once a prior of 2 is out."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % classes
    prior = np.log(np.array([8, 4, 2]) / 14)
    x = 2 * np.eye(classes)[labels] + 2 * prior + rng.normal(size=(90, classes))
    inputs = keras.Input((classes,))
    head = keras.layers.Dense(classes, kernel_initializer="identity")
    return keras.Model(inputs, head(inputs)), x.astype("float32"), labels


@pytest.mark.shared_out
@pytest.mark.parametrize("form", ["arrays", "one-hot", "batches"])
def test_a_tau_is_chosen_on_held_out_data(form):
    model, x, labels = biased()
    y = np.eye(3)[labels] if form == "one-hot" else labels
    data = [(x[:50], y[:50]), (x[50:], y[50:])] if form == "batches" else (x, y)
    adjusted = keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], tau="auto", data=data)
    tau = adjusted.get_layer("logit_adjustment").tau

    def balanced_accuracy(tau):
        predicted = (x - tau * np.log(np.array([8, 4, 2]) / 14)).argmax(axis=1)
        return np.mean([(predicted == labels)[labels == c].mean() for c in range(3)])

    scores = {t: balanced_accuracy(t) for t in TAUS}
    best = [t for t, score in scores.items() if score == max(scores.values())]
    assert tau == min(best, key=lambda t: abs(t - 1))
    assert tau > 1.2
    assert scores[tau] > balanced_accuracy(0) + 0.1


def test_a_tau_for_one_logit_and_for_several_labels():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 2)) < 0.5).astype(int)
    x = (rng.normal(size=(200, 2)) + 3 * y - 4).astype("float32")  # too few are called positive
    for units, counts in ((1, [95, 5]), (2, [[95, 5], [95, 5]])):
        inputs = keras.Input((units,))
        head = keras.layers.Dense(units, kernel_initializer="identity")
        model = keras.Model(inputs, head(inputs))
        adjusted = keras_lpl.models.with_logit_adjustment(
            model, counts, tau="auto", data=(x[:, :units], y[:, :units])
        )
        # The middle between both sides is at a logit of -2.5, and log 19 is 2.9.
        assert 0.6 <= adjusted.get_layer("logit_adjustment").tau <= 1.2


def test_masked_steps_have_no_say_in_the_tau():
    """Whatever their labels; nor have samples of weight 0."""
    model, x, labels = biased()
    inputs = keras.Input((4, 3))
    steps = keras.Model(inputs, model.layers[-1](keras.layers.Masking()(inputs)))
    x = np.concatenate([x.reshape(30, 3, 3), np.zeros((30, 1, 3), "float32")], axis=1)
    taus = []
    for padding in (0, 2, -1):
        y = np.concatenate([labels.reshape(30, 3), np.full((30, 1), padding)], axis=1)
        weight = np.ones(30, "float32")
        if padding == 2:
            y[:6], weight[:6] = (y[:6] + 1) % 3, 0
        else:
            weight[:6] = 0
        adjusted = keras_lpl.models.with_logit_adjustment(
            steps, [8, 4, 2], tau="auto", data=(x, y, weight)
        )
        taus.append(adjusted.get_layer("logit_adjustment").tau)
    assert taus[0] == taus[1] == taus[2] > 1.2
    loss = keras_lpl.PerturbedCrossentropy([], ignore_class=-1)
    # The metric reads the mask, which the layer passes on.
    adjusted.compile(loss=loss, weighted_metrics=[keras_lpl.metrics.BalancedAccuracy()])
    found = adjusted.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    alone = keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], tau=taus[0])
    predicted = alone.predict(x[6:, :3].reshape(-1, 3), verbose=0).argmax(axis=1)
    truth = y[6:, :3].reshape(-1)
    expected = np.mean([(predicted == truth)[truth == c].mean() for c in range(3)])
    assert found["balanced_accuracy"] == pytest.approx(expected)


@pytest.mark.on_one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x * np.nan, y), "not finite"),
        (lambda x, y: (x[:0], y[:0]), "without samples"),
        (lambda x, y: iter([]), "no batches"),
        (lambda x, y: [x, y], r"tuple `\(x, y\)`.*list with an entry of type ndarray"),
        (lambda x, y: (x,), "tuple with 1 parts"),
    ],
    ids=["nan", "empty", "no batches", "list", "labels forgotten"],
)
def test_bad_data_for_a_tau(change, message):
    model, x, labels = biased()
    with pytest.raises(ValueError, match=message):
        keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], tau="auto", data=change(x, labels))


@pytest.mark.on_one_backend
def test_a_tau_needs_data():
    model, x, labels = biased()
    with pytest.raises(ValueError, match=r"`tau=\"auto\"` needs held-out data.*data=None"):
        keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], tau="auto")
    with pytest.raises(ValueError, match=r"`data` is for `tau=\"auto\"`. Received: tau=1.0"):
        keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], data=(x, labels))
    with pytest.raises(ValueError, match=r"give such batches.*type int"):
        keras_lpl.models.with_logit_adjustment(model, [8, 4, 2], tau="auto", data=3)
