"""`MetaLabelCorrector`: a float64 loop, laws, state, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import engines
from keras_lpl.data import numbered_labels
from keras_lpl.models import MetaLabelCorrector, MetaModel, MetaWeightNet
from tests.models import helpers
from tests.models import meta_reference as reference
from tests.models.helpers import CLASSES

RATE, NET_RATE, DECAY, UNITS = 0.3, 0.05, 1e-2, 5
SAMPLES = 24


def compiled(method, network=None, rate=RATE, **keywords):
    x, y = helpers.data()
    rows = keras_lpl.data.long_tail_indices(y, [2] * CLASSES)
    network = helpers.functional() if network is None else network
    model = MetaModel.from_model(network, method=method, meta_data=(x[rows], y[rows]))
    loss = keras_lpl.PerturbedCrossentropy([])
    model.compile(keras.optimizers.SGD(rate), loss=loss, **keywords)
    return model


def values(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


# --- Against a float64 loop ----------------------------------------------------------------------


def most_likely(p):
    return np.eye(p.shape[1])[p.argmax(axis=1)]


def corrected(weights, nets, x, y, last, hard):
    """Labels to train with and labels to keep, as the authors' code has them."""
    _, of_logits, _ = reference.losses_and_logit_gradients(weights, x, y)
    given = np.eye(3)[y]
    p = of_logits + given
    last = np.where(last.any(axis=1, keepdims=True), last, p)
    a, b = (
        reference.net(net, -np.log((p * label).sum(axis=1)))[:, None]
        for net, label in zip(nets, (given, most_likely(last)), strict=True)
    )
    seen = (most_likely(last), most_likely(p)) if hard else (last, p)
    return [a * given + (1 - a) * (b * s + (1 - b) * now) for s, now in (seen, (last, p))]


def soft_gradient(weights, x, labels):
    """Gradient of the mean cross-entropy to soft labels, and that loss."""
    parts = [reference.losses_and_logit_gradients(weights, x, np.full(len(x), c)) for c in range(3)]
    loss = np.mean(sum(labels[:, c] * parts[c][0] for c in range(3)))
    of_logits = sum(labels[:, c, None] * parts[c][1] for c in range(3)) / len(x)
    hidden = parts[0][2]
    back = (of_logits @ weights[2].T) * (1 - hidden**2)
    return loss, [x.T @ back, back.sum(0), hidden.T @ of_logits, of_logits.sum(0)]


def train_in_float64(batches, hard):
    """Losses, weights, nets and corrections; the look ahead is by finite differences."""
    weights, meta = reference.starting_weights(), reference.meta_data()
    nets = [reference.starting_parameters(UNITS, seed) for seed in (9, 10)]
    adams = [reference.Adam(NET_RATE), reference.Adam(NET_RATE)]
    corrections, losses = np.zeros((SAMPLES, 3)), []
    for x, y, numbers in batches:

        def meta_loss(flat, x=x, y=y, numbers=numbers, weights=weights):
            split = [flat[:4], flat[4:]]
            labels, _ = corrected(weights, split, x, y, corrections[numbers], hard)
            step = soft_gradient(weights, x, labels)[1]
            ahead = [w - RATE * g for w, g in zip(weights, step, strict=True)]
            return reference.losses_and_logit_gradients(ahead, *meta)[0].mean()

        gradients = reference.by_finite_differences(meta_loss, [*nets[0], *nets[1]])
        for k, part in enumerate((gradients[:4], gradients[4:])):
            part = [g + DECAY * p for g, p in zip(part, nets[k], strict=True)]
            nets[k] = adams[k](nets[k], part)
        labels, kept = corrected(weights, nets, x, y, corrections[numbers], hard)
        loss, step = soft_gradient(weights, x, labels)
        losses.append(loss)
        corrections[numbers] = kept
        weights = [w - RATE * g for w, g in zip(weights, step, strict=True)]
    return losses, weights, nets, corrections


@pytest.mark.parametrize("hard", [True, False])
def test_training_follows_the_float64_loop(hard):
    parts = list(reference.batches(3))
    x = np.concatenate([part[0] for part in parts])
    y = np.concatenate([part[1] for part in parts])
    order = np.random.default_rng(1).permutation(SAMPLES)
    turns = [order[:8], order[8:16], order[16:], order[4:12]]  # some have a second turn
    expected = train_in_float64([(x[turn], y[turn], turn) for turn in turns], hard)

    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    model = MetaModel(
        inputs,
        keras.layers.Dense(3)(hidden),
        method=MetaLabelCorrector(
            SAMPLES, 0, hard=hard, units=UNITS, learning_rate=NET_RATE, weight_decay=DECAY
        ),
        meta_data=reference.meta_data(),
    )
    nets = model.meta_state.nets
    starts = [*reference.starting_weights()]
    starts += [*reference.starting_parameters(UNITS, 9), *reference.starting_parameters(UNITS, 10)]
    variables = [*model.trainable_variables, *nets[0].parameters, *nets[1].parameters]
    for variable, value in zip(variables, starts, strict=True):
        variable.assign(value.astype("float32"))
    model.compile(keras.optimizers.SGD(RATE), loss=keras_lpl.PerturbedCrossentropy([]))
    labels = numbered_labels(y)
    losses = [
        helpers.loss_of_step(model, x[turn].astype("float32"), labels[turn]) for turn in turns
    ]
    np.testing.assert_allclose(losses, np.asarray(expected[0]), rtol=5e-4)
    found = values(variables)
    for one, other in zip(found, [*expected[1], *expected[2][0], *expected[2][1]], strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(model.corrected_labels(), expected[3], rtol=5e-4, atol=5e-4)


# --- Laws ----------------------------------------------------------------------------------------


def test_a_warm_up_is_training_without_it():
    """The model learns as by itself, the nets rest, and predictions are kept."""
    x, y = helpers.data()
    found = []
    for is_meta in (True, False):
        keras.utils.set_random_seed(1)
        network = helpers.functional()
        if is_meta:
            model = compiled(MetaLabelCorrector(len(y), 1.0), network)
            before = values(model.meta_state.nets[0].parameters)
        else:
            model = helpers.compiled_lpl(network, keras_lpl.PerturbedCrossentropy([]))
            model.compile(keras.optimizers.SGD(RATE), loss=keras_lpl.PerturbedCrossentropy([]))
        labels = numbered_labels(y) if is_meta else y
        model.fit(x, labels, batch_size=16, shuffle=False, verbose=0)
        found.append(values(network.weights))
        if is_meta:
            for old, new in zip(before, model.meta_state.nets[0].parameters, strict=True):
                np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
            assert int(model.meta_state.nets[0].optimizer.iterations) == 0
            np.testing.assert_allclose(model.corrected_labels().sum(axis=1), 1, rtol=1e-5)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_nets_begin_after_the_warm_up():
    x, y = helpers.data()
    model = compiled(MetaLabelCorrector(len(y), 0.5))
    model.fit(x, numbered_labels(y), batch_size=16, epochs=4, verbose=0)
    steps = [int(net.optimizer.iterations) for net in model.meta_state.nets]
    assert steps == [8, 8]


@pytest.mark.shared_out
def test_wrong_labels_are_corrected():
    rng = np.random.default_rng(0)
    y = np.arange(240) % CLASSES
    x = (3 * np.eye(CLASSES, 6)[y] + rng.normal(size=(240, 6))).astype("float32")
    noisy = np.where(rng.random(240) < 0.4, rng.integers(0, CLASSES, 240), y)
    keras.utils.set_random_seed(1)
    model = MetaModel.from_model(
        helpers.functional(),
        method=MetaLabelCorrector(240, 0.4, learning_rate=0.003),
        meta_data=(x[:60], y[:60]),
    )
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss=keras_lpl.PerturbedCrossentropy([]))
    model.fit(x, numbered_labels(noisy), batch_size=24, epochs=16, verbose=0)
    right = (model.corrected_labels().argmax(axis=1) == y).mean()
    assert right > (noisy == y).mean() + 0.08


@pytest.mark.shared_out
def test_a_run_interrupted_saved_and_resumed_comes_to_the_same(tmp_path):
    x, y = helpers.data()
    labels = numbered_labels(y)
    whole = compiled(MetaLabelCorrector(len(y), 0.25))
    fit = {"batch_size": 16, "epochs": 4, "shuffle": False, "verbose": 0}
    whole.fit(x, labels, **fit)
    whole.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert resumed.method.get_config() == whole.method.get_config()
    np.testing.assert_array_equal(resumed.corrected_labels(), whole.corrected_labels())
    for model in (whole, resumed):
        model.fit(x, labels, **fit)
    helpers.assert_same_weights(whole, resumed)


@pytest.mark.shared_out
def test_evaluation_takes_labels_with_and_without_numbers():
    x, y = helpers.data()
    model = compiled(MetaLabelCorrector(len(y), 0), metrics=["accuracy"])
    history = model.fit(x, numbered_labels(y), validation_split=0.25, verbose=0).history
    assert np.isfinite(history["val_loss"]).all()
    with_numbers = model.evaluate(x, numbered_labels(y), verbose=0)
    np.testing.assert_allclose(with_numbers, model.evaluate(x, y, verbose=0), rtol=1e-6)
    one_hot = np.eye(CLASSES, dtype="float32")[y]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    expected = float(loss(one_hot, model.predict(x, verbose=0)))
    np.testing.assert_allclose(with_numbers[0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        with_numbers[1], (model.predict(x, verbose=0).argmax(axis=1) == y).mean(), rtol=1e-6
    )


@pytest.mark.shared_out
def test_two_classes():
    """One-hot labels of two classes are not taken for numbered ones."""
    x, y = helpers.data()
    y = y % 2
    inputs = keras.Input((6,))
    network = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model = MetaModel.from_model(
        network, method=MetaLabelCorrector(64, 0), meta_data=(np.eye(2, 6), np.arange(2))
    )
    model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]), metrics=["accuracy"])
    model.fit(x, numbered_labels(y), validation_split=0.25, verbose=0)
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, numbered_labels(y), verbose=0), expected)
    one_hot = np.eye(2, dtype="int32")[y]
    with pytest.raises(ValueError, match="no one-hot label"):
        model.fit(x, one_hot, verbose=0)
    if engines.compiles():
        assert np.isnan(model.test_on_batch(x, one_hot)[0])
    else:
        with pytest.raises(ValueError, match="no one-hot label"):
            model.test_on_batch(x, one_hot)


@pytest.mark.shared_out
def test_trains_from_a_data_set_that_shuffles():
    x, y = helpers.data()
    model = compiled(MetaLabelCorrector(len(y), 0))
    dataset = keras_lpl.data.ArrayDataset(x, numbered_labels(y), batch_size=24, seed=1)
    model.fit(dataset, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.corrected_labels().sum(axis=1), 1, rtol=1e-5)


@pytest.mark.shared_out
def test_ways_of_running_and_class_weights():
    """What the page says it works with, and what the error of `class_weight` says to take."""
    x, y = helpers.data()
    if keras.config.backend() != "torch":
        model = compiled(MetaLabelCorrector(len(y), 0.5), steps_per_execution=2)
        model.fit(x, numbered_labels(y), batch_size=16, epochs=2, verbose=0)
        assert model.corrected_labels().any(axis=1).all()
    found = []
    for weight in (1.0, 3.0):
        keras.utils.set_random_seed(1)
        model = compiled(MetaLabelCorrector(len(y), 0))
        reweight = keras_lpl.callbacks.DeferredReweighting(
            helpers.COUNTS, start_epoch=0, class_weight=[1.0, 1.0, 1.0, 1.0, weight]
        )
        fit = {"batch_size": 64, "shuffle": False, "verbose": 0}
        model.fit(x, numbered_labels(y), callbacks=[reweight], **fit)
        found.append(values(model.trainable_variables))
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(*found, strict=True))


def test_a_number_that_no_sample_has():
    """Raises where values can be seen; in compiled code the loss is NaN and no row is touched."""
    x, _ = helpers.data()
    numbers = [63, 1, 2, 64]
    labels = np.stack([np.arange(4), -1 - np.asarray(numbers)], axis=1)
    model = compiled(MetaLabelCorrector(64, 0))
    with pytest.raises(ValueError, match=r"64 training samples.*num_samples"):
        model.fit(x[:4], labels, verbose=0)
    if not engines.compiles():
        with pytest.raises(ValueError, match="64 training samples"):
            model.train_on_batch(x[:4], labels)
        return
    assert np.isnan(model.train_on_batch(x[:4], labels))
    rows = model.corrected_labels()
    np.testing.assert_allclose(rows[numbers[:3]].sum(axis=1), 1, rtol=1e-5)
    assert np.count_nonzero(rows.any(axis=1)) == 3
    for parameter in (*model.meta_state.nets[0].parameters, *model.meta_state.nets[1].parameters):
        assert np.isfinite(ops.convert_to_numpy(parameter)).all()


@pytest.mark.shared_out
def test_a_sample_of_weight_zero_takes_no_part():
    """Whatever its label is; and nothing is kept of it."""
    x, y = helpers.data()
    labels = numbered_labels(y)
    found = []
    for bad in (y[0], CLASSES):
        given = labels[:8].copy()
        given[0, 0] = bad
        keras.utils.set_random_seed(1)
        model = compiled(MetaLabelCorrector(len(y), 0))
        assert np.isfinite(model.train_on_batch(x[:8], given, np.arange(8) > 0))
        assert not model.corrected_labels()[0].any()
        found.append([*values(model.trainable_variables), model.corrected_labels()])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_mixed_precision_trains():
    x, y = helpers.data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(MetaLabelCorrector(len(y), 0), helpers.functional(), rate=0.1)
    finally:
        keras.config.set_dtype_policy("float32")
    history = model.fit(x, numbered_labels(y), batch_size=16, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    np.testing.assert_allclose(model.corrected_labels().sum(axis=1), 1, rtol=1e-2)


def test_what_is_refused():
    x, y = helpers.data()
    method = MetaLabelCorrector(len(y), 0)
    model = compiled(method)
    for labels in (y, np.eye(CLASSES)[y], numbered_labels(y).astype("float32")):
        with pytest.raises(ValueError, match="numbered_labels"):
            model.fit(x, labels, verbose=0)
    with pytest.raises(ValueError, match="class_weight"):
        model.fit(x, numbered_labels(y), class_weight={0: 1.0, 1: 2.0}, verbose=0)
    for loss in (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras_lpl.PerturbedCrossentropy([], multi_label=True),
        keras_lpl.PerturbedCrossentropy([], ignore_class=0),
    ):
        with pytest.raises(ValueError, match="one label per sample"):
            model.compile("sgd", loss=loss)
    inputs = keras.Input((4, 6))
    with pytest.raises(ValueError, match=r"logits \(batch, classes\)"):
        MetaModel(
            inputs,
            keras.layers.Dense(3)(inputs),
            method=method,
            meta_data=(np.zeros((3, 4, 6)), np.zeros((3, 4), "int32")),
        )
    with pytest.raises(ValueError, match="MetaWeightNet"):
        compiled(MetaWeightNet()).corrected_labels()
    for name in ("num_samples", "warm_up", "units", "learning_rate", "weight_decay"):
        with pytest.raises(ValueError, match=name):
            MetaLabelCorrector(**{"num_samples": 3, name: -1})


def test_numbered_labels():
    expected = [[2, -1], [0, -2], [1, -3]]
    for labels in ([2, 0, 1], [[2], [0], [1]], np.eye(3)[[2, 0, 1]]):
        found = numbered_labels(labels)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    assert numbered_labels(np.array([255], "uint8")).tolist() == [[255, -1]]
    for labels, message in ((["a", "b"], "class names"), ([-1, 0], "negative")):
        with pytest.raises(ValueError, match=message):
            numbered_labels(labels)
    with pytest.raises(ValueError, match=r"soft labels of shape \(2, 2\)"):
        numbered_labels([[0.7, 0.3], [0.2, 0.8]])
