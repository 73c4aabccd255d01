"""`AdversarialModel` and `attack`: against a float64 loop, their laws, and what they refuse."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.models import AdversarialModel, attack
from tests.models import helpers
from tests.models.helpers import CLASSES

RATE = 0.2


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def pgd(x, y, w, b, epsilon, steps, norm, value_range=None):
    """Projected gradient ascent on the inputs of a linear classifier, in float64."""
    length = epsilon if steps == 1 else 2.5 * epsilon / steps
    delta = np.zeros_like(x)
    for _ in range(steps):
        gradient = (softmax((x + delta) @ w + b) - np.eye(w.shape[1])[y]) @ w.T
        if norm == "linf":
            delta = np.clip(delta + length * np.sign(gradient), -epsilon, epsilon)
        else:
            delta = delta + length * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
            length_of = np.linalg.norm(delta, axis=1, keepdims=True)
            delta = delta * np.minimum(1, epsilon / length_of)
        if value_range:
            lowest, highest = np.minimum(x, value_range[0]), np.maximum(x, value_range[1])
            delta = np.clip(x + delta, lowest, highest) - x
    return x + delta


def linear():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(inputs))


def starting_weights():
    rng = np.random.default_rng(3)
    return rng.normal(size=(6, CLASSES)), rng.normal(size=CLASSES)


@pytest.mark.parametrize(
    ("norm", "steps", "value_range"), [("linf", 1, None), ("linf", 4, (-1.0, 1.5)), ("l2", 4, None)]
)
def test_training_follows_the_float64_loop(norm, steps, value_range):
    network, (w, b) = linear(), starting_weights()
    network.set_weights([w, b])
    model = AdversarialModel.from_model(
        network,
        epsilon=0.4,
        num_steps=steps,
        norm=norm,
        random_start=False,
        value_range=value_range,
    )
    model.compile(keras.optimizers.SGD(RATE), loss=keras_lpl.PerturbedCrossentropy([]))
    x, y = helpers.data()
    for rows in (slice(0, 16), slice(16, 32)):
        model.train_on_batch(x[rows], y[rows])
        moved = pgd(x[rows].astype("float64"), y[rows], w, b, 0.4, steps, norm, value_range)
        gradient = (softmax(moved @ w + b) - np.eye(CLASSES)[y[rows]]) / 16
        w, b = w - RATE * moved.T @ gradient, b - RATE * gradient.sum(0)
    for variable, value in zip(network.weights, (w, b), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), value, rtol=1e-4, atol=1e-5)
    expected = pgd(x.astype("float64"), y, w, b, 0.4, steps, norm, value_range)
    np.testing.assert_allclose(model.attack(x, y, batch_size=30), expected, rtol=1e-4, atol=1e-5)
    keywords = {"epsilon": 0.4, "num_steps": steps, "norm": norm, "value_range": value_range}
    found = attack(network, x, y, random_start=False, **keywords)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_bound_of_zero_is_training_on_the_inputs():
    """With batch normalisation, dropout and running statistics, which the attack leaves alone."""
    x, y = helpers.data()
    found = []
    for is_adversarial in (True, False):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((6,))
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
        hidden = keras.layers.Dropout(0.3, seed=3)(hidden)
        network = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
        if is_adversarial:
            model = AdversarialModel.from_model(network, epsilon=0.0, num_steps=2)
        else:
            model = keras_lpl.LPLModel.from_model(network)
        loss = keras_lpl.LPLLoss(helpers.COUNTS)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss)
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        found.append([*network.weights, *model.statistics.weights])
    for a, b in zip(*found, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_stay_in_the_ball_and_differ(norm):
    x, y = helpers.data()
    x = np.clip(x, 0, 2)
    network = helpers.functional()
    keywords = {"epsilon": 0.5, "norm": norm, "num_steps": 1, "step_size": 0.0}
    one, other = (attack(network, x, y, seed=seed, **keywords) - x for seed in (0, 1))
    assert np.abs(one - other).max() > 0.1
    length = np.abs(one).max(axis=1) if norm == "linf" else np.linalg.norm(one, axis=1)
    assert 0.3 < length.max() <= 0.5 + 1e-6
    np.testing.assert_array_equal(one, attack(network, x, y, seed=0, **keywords) - x)
    inside = attack(network, x, y, value_range=(0, 2), epsilon=0.5, norm=norm, num_steps=3)
    assert inside.min() >= 0
    assert inside.max() <= 2
    assert np.abs(inside - x).max() > 0.1


def test_an_attack_raises_the_loss_and_changes_nothing():
    x, y = helpers.data()
    model = AdversarialModel.from_model(helpers.functional(), epsilon=0.3)
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=2, verbose=0)
    before = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    losses = [
        model.evaluate(moved, y, verbose=0)
        for moved in (x, model.attack(x, y, num_steps=1), model.attack(x, y, num_steps=20))
    ]
    assert losses[0] < losses[1] < losses[2]
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_saves_and_loads(tmp_path):
    x, y = helpers.data()
    keywords = {"epsilon": 0.2, "num_steps": 2, "random_start": False, "value_range": (-5.0, 5.0)}
    model = AdversarialModel.from_model(helpers.functional(), **keywords)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=keras_lpl.LPLLoss())
    model.fit(x, y, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert type(restored) is AdversarialModel
    assert restored.ascent == model.ascent
    assert restored.value_range == (-5.0, 5.0)
    for each in (model, restored):
        each.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(model.trainable_variables, restored.trainable_variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_trains_in_half_precision_and_on_whole_numbers():
    x, y = helpers.data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = AdversarialModel.from_model(helpers.functional(), epsilon=0.1, norm="l2")
        model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    finally:
        keras.config.set_dtype_policy("float32")
    history = model.fit(np.round(x * 10).astype("int32"), y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_bad_arguments_raise():
    for keywords, message in (
        ({"epsilon": -1}, "epsilon"),
        ({"num_steps": 0}, "num_steps"),
        ({"step_size": -1.0}, "step_size"),
        ({"norm": "l1"}, "norm"),
        ({"random_start": "yes"}, "random_start"),
        ({"value_range": (1, 0)}, "value_range"),
        ({"value_range": 1}, "value_range"),
    ):
        with pytest.raises(ValueError, match=message):
            AdversarialModel.from_model(helpers.functional(), **keywords)
    inputs = [keras.Input((2,)), keras.Input((2,))]
    several = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))
    with pytest.raises(ValueError, match="2 inputs"):
        AdversarialModel.from_model(several)
    with pytest.raises(ValueError, match="as many labels"):
        attack(helpers.functional(), np.ones((3, 6)), np.ones(2), epsilon=0.1)
