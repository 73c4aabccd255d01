"""Several training steps against a float64 NumPy training loop, losses, weights and confidences.

Every backend is held to the same numbers, so this is also what makes the backends agree with each
other: same weights and batches, same losses, gradients (through the weights they lead to) and
running confidences, to `RTOL`.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests import reference

CLASSES, COUNTS = 4, (40, 6, 25, 3)
STEPS, LEARNING_RATE = 6, 0.2
RTOL = 2e-4  # float32 over six steps, each of which feeds the next


def batches():
    rng = np.random.default_rng(7)
    for _ in range(STEPS):
        y = rng.integers(0, CLASSES, 16)
        x = rng.normal(size=(16, 5)) + np.eye(CLASSES, 5)[y]
        yield x.astype("float32"), y, rng.uniform(0.5, 1.5, 16).astype("float32")


def starting_weights():
    rng = np.random.default_rng(8)
    shapes = [(5, 6), (6,), (6, CLASSES), (CLASSES,)]
    return [rng.normal(size=shape, scale=0.5).astype("float32") for shape in shapes]


def train_in_numpy(plan):
    """Two layers, tanh, gradient descent; `plan(confidence, seen)` gives direction and steps."""
    w1, b1, w2, b2 = (w.astype("float64") for w in starting_weights())
    total, seen = np.zeros(CLASSES), np.zeros(CLASSES)
    losses, confidences = [], []
    for x, y, weight in batches():
        x, weight = x.astype("float64"), weight.astype("float64")
        hidden = np.tanh(x @ w1 + b1)
        logits = hidden @ w2 + b2
        confidence, now = reference.class_confidence(y, logits, weight)
        kept = np.where(now > 0, 0.9, 1.0)
        total, seen = kept * total + now * confidence, kept * seen + now
        running = np.where(seen > 0, total / np.maximum(seen, 1e-300), 1 / CLASSES)
        shift, direction, steps, step_size = plan(running, seen)
        arguments = (y, logits + shift, direction, steps, step_size, True, weight)
        losses.append(np.mean(weight * reference.lpl_loss(*arguments)))
        confidences.append(running)
        gradient = reference.lpl_gradient(*arguments)
        back = (gradient @ w2.T) * (1 - hidden**2)
        w2, b2 = w2 - LEARNING_RATE * hidden.T @ gradient, b2 - LEARNING_RATE * gradient.sum(0)
        w1, b1 = w1 - LEARNING_RATE * x.T @ back, b1 - LEARNING_RATE * back.sum(0)
    return losses, confidences, [w1, b1, w2, b2]


def train_in_keras(loss):
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(6, activation="tanh")(inputs)
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(CLASSES)(hidden))
    for variable, value in zip(model.trainable_weights, starting_weights(), strict=True):
        variable.assign(value)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss=loss)
    losses, confidences = [], []
    for x, y, weight in batches():
        history = model.fit(x, y, sample_weight=weight, batch_size=16, verbose=0).history
        losses.append(history["loss"][0])
        confidences.append(ops.convert_to_numpy(model.confidence))
    return losses, confidences, [ops.convert_to_numpy(w) for w in model.trainable_weights]


def by_confidence(confidence, seen):
    direction = reference.split_by_confidence(confidence, "mean", seen)
    bound = reference.bound_by_confidence(confidence, "mean", 0.42, 0.0, seen)
    return 0.0, direction, reference.num_steps(bound, 0.1), 0.1


def by_frequency(confidence, seen):
    direction = reference.split_by_frequency(COUNTS, 2)
    bound = reference.bound_by_frequency(COUNTS, 2, 0.0, 1.5, 0.6)
    return 0.0, direction, reference.num_steps(bound, 0.1), 0.1


def with_adjustment(confidence, seen):
    return np.log(np.array(COUNTS) / np.sum(COUNTS)), *by_frequency(confidence, seen)[1:]


def by_default(confidence, seen):
    """The default with counts: one step on adjusted logits, of |log N_c - mean log N| q_c^16."""
    direction, bound = reference.split_and_bound_by_log_frequency(COUNTS)
    shift = np.log(np.array(COUNTS) / np.sum(COUNTS))
    return shift, direction, np.ones(CLASSES, int), bound * confidence**16


FREQUENCY = {
    "bound": "ratio",
    "threshold": 2,
    "epsilon": 0.0,
    "delta_epsilon": 1.5,
    "head_scale": 0.6,
}
CASES = {
    "default": (by_default, {"class_counts": COUNTS}),
    "confidence": (by_confidence, {"epsilon": 0.42, "delta_epsilon": 0.0, "step_size": 0.1}),
    "frequency": (by_frequency, {"class_counts": COUNTS, **FREQUENCY}),
    "la+lpl": (
        with_adjustment,
        {"class_counts": COUNTS, **FREQUENCY, "logit_adjustment": 1.0},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_training_follows_the_float64_loop(case):
    plan, settings = CASES[case]
    expected = train_in_numpy(plan)
    losses, confidences, weights = train_in_keras(keras_lpl.LPLLoss(**settings))
    np.testing.assert_allclose(losses, expected[0], rtol=RTOL)
    np.testing.assert_allclose(confidences, expected[1], rtol=RTOL)
    for weight, value in zip(weights, expected[2], strict=True):
        np.testing.assert_allclose(weight, value, rtol=RTOL, atol=RTOL)


def test_the_oracle_tells_losses_apart():
    losses, _, _ = train_in_numpy(by_frequency)
    others, _, _ = train_in_numpy(with_adjustment)
    assert np.max(np.abs(np.array(losses) / others - 1)) > 100 * RTOL
