"""MetaSAug: its gradient against nested differentiation in float64, and its laws."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import perturbations
from keras_lpl.models import MetaModel, MetaSAug
from tests.models import helpers
from tests.models import meta_reference as reference
from tests.models.test_meta_model import meta_data

RATE, STRENGTH, STEP_SIZE = 0.3, 4.0, 20.0
CLASS_WEIGHT = np.array([0.5, 1.0, 2.0])


def small_model(covariance, method):
    """The model of the reference, with weights of the classes as the authors have them."""
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(3)(keras.layers.Dense(4, activation="tanh")(inputs))
    model = MetaModel(inputs, outputs, method=method, meta_data=reference.meta_data())
    isda = perturbations.ISDA(STRENGTH, schedule=None, covariance=covariance)
    loss = keras_lpl.PerturbedCrossentropy([isda])
    model.compile(keras.optimizers.SGD(RATE), loss=loss)
    model.reweight_classes(CLASS_WEIGHT)
    return model


def set_weights(model):
    for variable, value in zip(
        model.trainable_variables, reference.starting_weights(), strict=True
    ):
        variable.assign(value.astype("float32"))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_step_follows_nested_differentiation_in_float64(covariance):
    """The second step, so that the statistics of the first are there."""
    pytest.importorskip("torch")
    model = small_model(covariance, MetaSAug(STEP_SIZE))
    batches = list(reference.batches(2, size=12))
    for x, y, _ in batches:
        set_weights(model)
        model.train_on_batch(x.astype("float32"), y)

    # The running covariance is that of the features so far, the last batch folded in.
    weights = reference.starting_weights()
    x, y = (np.concatenate(parts) for parts in list(zip(*batches, strict=True))[:2])
    features = np.tanh(x @ weights[0] + weights[1])
    sigma = np.stack([np.cov(features[y == c].T, bias=True) for c in range(3)])
    if covariance == "diagonal":
        sigma = np.stack([np.diag(each) for each in sigma])

    def step(step_size):
        (x, y, _), meta = batches[1], reference.meta_data()
        arguments = (STRENGTH, step_size, x, y, CLASS_WEIGHT, meta, RATE)
        return reference.meta_saug_step(weights, sigma, *arguments)

    expected, of_sigma, meta_loss = step(STEP_SIZE)
    (by_differences,) = reference.by_finite_differences(lambda x: meta_loss(x[0]), [sigma])
    np.testing.assert_allclose(of_sigma, by_differences, rtol=1e-5, atol=1e-9)
    moved = zip(expected, step(0.0)[0], weights, model.trainable_variables, strict=True)
    for new, unlearnt, old, variable in moved:
        np.testing.assert_allclose(ops.convert_to_numpy(variable), new, rtol=1e-4, atol=2e-5)
        # What was learnt is a good part of the step.
        assert np.abs(new - unlearnt).max() > 0.02 * np.abs(new - old).max()


def isda(covariance="full"):
    return keras_lpl.ISDALoss(2.0, schedule=None, covariance=covariance)


def make(method, loss):
    """A model that learns covariances by `method`; without one, an `LPLModel`."""
    network = helpers.functional()
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(4)
    network.set_weights([rng.normal(size=w.shape, scale=0.5) for w in network.get_weights()])
    if method is None:
        model = keras_lpl.LPLModel.from_model(network)
    else:
        model = MetaModel.from_model(network, method=method, meta_data=meta_data())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss)
    return model


def train(model, epochs=1):
    x, y = helpers.data()
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return [
        ops.convert_to_numpy(w) for w in [*model.trainable_variables, *model.statistics.weights]
    ]


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_step_of_zero_is_isda(covariance):
    one = train(make(MetaSAug(step_size=0), isda(covariance)))
    for a, b in zip(one, train(make(None, isda(covariance))), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_a_step_is_not_isda_and_a_resumed_run_comes_to_the_same(tmp_path):
    whole = make(MetaSAug(step_size=5.0), isda())
    first = train(whole)
    differences = [
        np.abs(a - b).max() for a, b in zip(first, train(make(None, isda())), strict=True)
    ]
    assert max(differences) > 1e-3
    whole.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert resumed.method.get_config() == {"step_size": 5.0}
    for a, b in zip(train(whole), train(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "loss",
    [
        keras_lpl.LPLLoss(helpers.COUNTS),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras_lpl.PerturbedCrossentropy([perturbations.ISDA(), perturbations.ISDA()]),
    ],
    ids=["lpl", "cross-entropy", "two"],
)
def test_another_loss_raises(loss):
    with pytest.raises(ValueError, match="covariances of ISDA"):
        make(MetaSAug(), loss)
    with pytest.raises(ValueError, match="step_size"):
        MetaSAug(step_size=-1)


def test_with_other_perturbations():
    la = perturbations.LogitAdjustment(helpers.COUNTS)
    loss = keras_lpl.PerturbedCrossentropy([la, perturbations.ISDA(covariance="diagonal")])
    model = make(MetaSAug(), loss)
    x, y = helpers.data()
    history = model.fit(x, y, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
