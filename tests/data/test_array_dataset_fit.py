"""`ArrayDataset` in Keras's own `fit` and `evaluate`, and with TensorFlow not installed."""

import keras
import numpy as np
import pytest

import keras_lpl
from keras_lpl.data import ArrayDataset
from tests.data.test_array_dataset import DRAWN, X, Y


class Seen(ArrayDataset):
    """Remembers, in order, which batches of which epochs were taken."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def __getitem__(self, index):
        self.seen.append((self.epoch, index))
        return super().__getitem__(index)


def make_model(steps_per_execution=1):
    inputs = keras.Input((2,))
    x = keras.layers.Rescaling([1e-2, 1e-4])(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, kernel_initializer="zeros")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    model.compile(optimizer, loss, steps_per_execution=steps_per_execution)
    return model


def trained_by_hand(dataset, number):
    model = make_model()
    for _ in range(number):
        for x, y in dataset:
            model.train_on_batch(x, y)
        dataset.on_epoch_end()
    return model.get_weights()


def assert_equal_weights(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampling", [None, "class_balanced"])
def test_fit_trains_on_the_epochs_in_turn(sampling):
    arguments = {"sampling": sampling, "disturb_rate": 0.3}
    expected = trained_by_hand(ArrayDataset(X, Y, 30, **arguments), 3)
    other = trained_by_hand(ArrayDataset(X, Y, 30, initial_epoch=1, **arguments), 3)
    assert np.abs(expected[0] - other[0]).max() > 1e-2  # so the check below can fail

    dataset, model = ArrayDataset(X, Y, 30, **arguments), make_model()
    model.fit(dataset, epochs=2, shuffle=False, verbose=0, validation_data=(X, Y))
    assert dataset.epoch == 2
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    assert dataset.epoch == 3
    assert_equal_weights(model.get_weights(), expected)


def test_a_resumed_fit_comes_to_the_weights_of_a_whole_one(tmp_path):
    whole = make_model()
    whole.fit(ArrayDataset(X, Y, 30, **DRAWN), epochs=4, shuffle=False, verbose=0)

    first = make_model()
    first.fit(ArrayDataset(X, Y, 30, **DRAWN), epochs=2, shuffle=False, verbose=0)
    first.save(tmp_path / "model.keras")
    second = keras.saving.load_model(tmp_path / "model.keras")
    rest = ArrayDataset(X, Y, 30, initial_epoch=2, **DRAWN)
    second.fit(rest, epochs=4, initial_epoch=2, shuffle=False, verbose=0)
    assert rest.epoch == 4
    assert_equal_weights(second.get_weights(), whole.get_weights())


def test_fit_of_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = Seen(X, Y, 30, **DRAWN)
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    passes = [(epoch, i) for epoch in range(2) for i in range(4)]
    # Before that, one or two from which Keras builds the model or learns the shapes.
    assert dataset.seen[-8:] == passes
    assert dataset.seen[:-8] in ([(0, 0)], [(0, 0), (0, 1)])


@pytest.mark.parametrize("shuffle", [True, False])
def test_steps_per_epoch_takes_several_epochs_for_a_pass(shuffle):
    dataset = Seen(X, Y, 30, **DRAWN)
    make_model().fit(dataset, epochs=4, steps_per_epoch=2, shuffle=shuffle, verbose=0)
    assert dataset.epoch == 2
    assert {epoch for epoch, _ in dataset.seen} == {0, 1}
    for epoch in (0, 1):
        assert {i for e, i in dataset.seen if e == epoch} == {0, 1, 2, 3}


def test_fits_own_shuffling_changes_the_order_of_batches_alone():
    dataset = Seen(X, Y, 10, **DRAWN)
    make_model().fit(dataset, epochs=2, shuffle=True, verbose=0)
    assert dataset.epoch == 2
    for epoch in (0, 1):
        batches = [i for e, i in dataset.seen if e == epoch]
        assert set(batches) == set(range(10))
        assert batches[-10:] != list(range(10))


@pytest.mark.parametrize("labels", [Y, Y[:, None], np.eye(4, dtype="float32")[Y]])
def test_fit_of_an_lpl_model(labels):
    inputs = keras.Input((2,))
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(4)(inputs))
    model.compile(keras.optimizers.SGD(1e-6), loss=keras_lpl.LPLLoss())
    dataset = ArrayDataset(X, labels, 32, **DRAWN)
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert dataset.epoch == 2


def test_evaluate_and_predict_count_as_no_epoch():
    dataset, model = Seen(X, Y, 30, **DRAWN), make_model()
    expected = model.evaluate(*zip_batches(dataset), batch_size=30, verbose=0)
    dataset.seen.clear()
    for _ in range(2):
        assert model.evaluate(dataset, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert len(model.predict(dataset, verbose=0)) == 100
    assert {epoch for epoch, _ in dataset.seen} == {0}
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    assert dataset.epoch == 2
    dataset.seen.clear()
    model.evaluate(dataset, verbose=0)
    assert {epoch for epoch, _ in dataset.seen} == {2}
    assert dataset.epoch == 2


def zip_batches(dataset):
    xs, ys = zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    return np.concatenate(xs), np.concatenate(ys)


@pytest.mark.shared_out
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint8", "uint16", "uint32", "uint64", "float16", "float64"]
)
def test_labels_of_every_type_reach_the_loss(dtype):
    if dtype == "uint64" and keras.config.backend() == "torch":
        pytest.skip("Keras takes no uint64 on PyTorch")
    labels = Y % 2 if dtype == "bool" else Y
    weights = []
    for y in (labels.astype("int32"), labels.astype(dtype)):
        model = make_model()
        model.fit(ArrayDataset(X, y, 32, **DRAWN), epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert_equal_weights(*weights)


def test_class_weights_of_fit_reach_the_labels_that_are_drawn():
    dataset, model = ArrayDataset(X, Y, 32, **DRAWN), make_model()
    model.fit(dataset, class_weight={0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}, verbose=0)
    assert all((weight == 0).all() for weight in model.get_weights())
