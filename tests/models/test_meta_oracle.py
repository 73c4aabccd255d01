"""Training steps of `MetaModel` against a float64 loop, which is held to nested differentiation."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests.models import helpers
from tests.models import meta_reference as reference

STEPS, RATE = 4, 0.3
RTOL = 5e-4  # float32 over four steps, each of which feeds the next
METHODS = {
    "meta_weight_net": lambda: keras_lpl.models.MetaWeightNet(5, 0.05, weight_decay=1e-2),
    "learning_to_reweight": lambda: keras_lpl.models.LearningToReweight(),
}


def meta_model(method, **keywords):
    inputs = keras.Input((6,))
    penalty = keras.regularizers.L2(reference.REGULARIZER)
    hidden = keras.layers.Dense(4, activation="tanh", kernel_regularizer=penalty)(inputs)
    outputs = keras.layers.Dense(3, kernel_regularizer=penalty)(hidden)
    model = keras_lpl.models.MetaModel(
        inputs, outputs, method=method, meta_data=reference.meta_data(), **keywords
    )
    pairs = list(zip(model.trainable_variables, reference.starting_weights(), strict=True))
    if model.meta_state is not None:
        pairs += zip(model.meta_state.parameters, reference.starting_parameters(), strict=True)
    for variable, value in pairs:
        variable.assign(value.astype("float32"))
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
    model.compile(optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def train(model, weighted=True):
    losses = []
    for x, y, weight in reference.batches(STEPS):
        losses.append(
            helpers.loss_of_step(model, x.astype("float32"), y, weight if weighted else None)
        )
    return losses, [ops.convert_to_numpy(w) for w in model.trainable_variables]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_training_follows_the_float64_loop(method, weighted):
    expected = reference.train(method, STEPS, RATE, weighted=weighted)
    model = meta_model(METHODS[method]())
    losses, weights = train(model, weighted)
    np.testing.assert_allclose(losses, expected[0], rtol=RTOL)
    for weight, value in zip(weights, expected[1], strict=True):
        np.testing.assert_allclose(weight, value, rtol=RTOL, atol=RTOL)
    if method == "meta_weight_net":
        for parameter, value in zip(model.meta_state.parameters, expected[2], strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(parameter), value, rtol=10 * RTOL, atol=10 * RTOL
            )


def test_the_loop_tells_methods_apart():
    one, other = (reference.train(method, STEPS, RATE)[1] for method in METHODS)
    assert max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) > 100 * RTOL


def test_the_loops_gradient_is_that_of_nested_differentiation():
    torch = pytest.importorskip("torch")
    weights, parameters = reference.starting_weights(), reference.starting_parameters()
    x, y, given = next(reference.batches(1))
    meta = reference.meta_data()
    expected = reference.gradient_of_parameters(weights, parameters, x, y, given, meta, RATE)

    def tensor(array):
        return torch.tensor(array, requires_grad=array.dtype == np.float64)

    def losses(weights, x, y):
        w1, b1, w2, b2 = weights
        logits = torch.tanh(tensor(x).detach() @ w1 + b1) @ w2 + b2
        return torch.nn.functional.cross_entropy(logits, tensor(y), reduction="none")

    weights, parameters = [tensor(w) for w in weights], [tensor(p) for p in parameters]
    of_samples, given = losses(weights, x, y), tensor(given).detach()
    hidden = torch.relu(of_samples.detach()[:, None] @ parameters[0] + parameters[1])
    value = torch.sigmoid(hidden @ parameters[2] + parameters[3])[:, 0] * given
    virtual = torch.mean(value * given.sum() / value.sum() * of_samples)
    gradients = torch.autograd.grad(virtual, weights, create_graph=True)
    ahead = [w - RATE * g for w, g in zip(weights, gradients, strict=True)]
    nested = torch.autograd.grad(losses(ahead, *meta).mean(), parameters)
    for one, other in zip(nested, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-6, atol=1e-10)
