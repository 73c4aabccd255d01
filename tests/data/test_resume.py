"""An interrupted `fit` with `ArrayDataset`, started again by an unchanged script.

The oracle is the run that nothing interrupts: the same weights, bit by bit.
"""

import keras
import numpy as np
import pytest

from keras_lpl.data import ArrayDataset
from keras_lpl.data import array_dataset as module
from tests.data.test_array_dataset import DRAWN, X, Y
from tests.data.test_array_dataset_fit import Seen, make_model

EPOCHS = 6


class Interrupted(Exception):
    """A power failure."""


class Interrupt(keras.callbacks.Callback):
    """Raises when an epoch begins, or in the middle of it."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, None):
            raise Interrupted

    def on_train_batch_end(self, batch, logs=None):
        # Of several batches a call, the last one is told.
        if self.epoch == self.at[0] and self.at[1] is not None and batch >= self.at[1]:
            raise Interrupted


def script(backup, interrupt=(), batch_size=25, validation=None, steps_per_execution=1, **fit):
    """What a user runs, and runs again. Returns the weights, and the data set."""
    model = make_model(steps_per_execution)
    dataset = Seen(X, Y, batch_size, **DRAWN)
    validation = {
        None: None,
        "arrays": (X, Y),
        "another": ArrayDataset(X, Y, 30, **DRAWN),
        "the same": dataset,
    }[validation]
    callbacks = [keras.callbacks.BackupAndRestore(backup), *interrupt]
    model.fit(
        dataset,
        **{"epochs": EPOCHS, "shuffle": False, "verbose": 0, **fit},
        validation_data=validation,
        callbacks=callbacks,
    )
    return model.get_weights(), dataset


def resumed(folder, at, **arguments):
    with pytest.raises(Interrupted):
        script(folder, [Interrupt(*at)], **arguments)
    return script(folder, **arguments)


def assert_same_bits(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()


CASES = {
    "plain": {},
    "validation": {"validation": "arrays"},
    "validation data set": {"validation": "another"},
    "validation on the training data": {"validation": "the same", "validation_freq": 2},
    "half a pass an epoch": {"steps_per_epoch": 2},  # of four batches
    "half a pass, and validation": {"steps_per_epoch": 2, "validation": "the same"},
    "a quarter": {"steps_per_epoch": 1, "validation": "arrays"},
    "more than there is": {"steps_per_epoch": 9},
    "several batches a call": {"steps_per_execution": 2, "batch_size": 20},
    "several batches a call of half a pass": {"steps_per_execution": 2, "steps_per_epoch": 1},
}


@pytest.mark.shared_out
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, case):
    arguments = CASES[case]
    if "steps_per_execution" in arguments and keras.config.backend() == "torch":
        pytest.skip("Keras takes one batch a call on PyTorch")
    expected, whole = script(tmp_path / "whole", **arguments)
    for at in ((3, None), (4, 0)):
        weights, dataset = resumed(tmp_path / str(at), at, **arguments)
        assert_same_bits(weights, expected)
        assert dataset.epoch == whole.epoch


def test_a_run_that_stops_at_every_epoch(tmp_path):
    expected, _ = script(tmp_path / "whole", steps_per_epoch=2)
    for epoch in range(1, EPOCHS):
        with pytest.raises(Interrupted):
            script(tmp_path / "cut", [Interrupt(epoch)], steps_per_epoch=2)
    weights, _ = script(tmp_path / "cut", steps_per_epoch=2)
    assert_same_bits(weights, expected)


def test_without_following_fit_the_first_epochs_are_shown_again(tmp_path, monkeypatch):
    """The tests above can fail."""
    expected, _ = script(tmp_path / "whole")
    monkeypatch.setattr(module, "reading_of", lambda dataset: None)
    same, _ = script(tmp_path / "counted")  # uninterrupted, counting is enough
    assert_same_bits(same, expected)
    weights, dataset = resumed(tmp_path / "cut", (3, None))
    assert {epoch for epoch, _ in dataset.seen} >= {0, 1, 2}
    assert np.abs(weights[0] - expected[0]).max() > 1e-3


@pytest.mark.shared_out
@pytest.mark.parametrize("workers", [{"workers": 4}, {"workers": 2, "use_multiprocessing": True}])
def test_workers_make_no_difference(tmp_path, workers):
    expected, _ = script(tmp_path / "whole")

    def with_workers(*callbacks):
        model, dataset = make_model(), ArrayDataset(X, Y, 25, **DRAWN)
        for name, value in workers.items():
            setattr(dataset, name, value)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "cut")
        model.fit(dataset, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[backup, *callbacks])
        return model.get_weights()

    with pytest.raises(Interrupted):
        with_workers(Interrupt(3))
    assert_same_bits(with_workers(), expected)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_steps_that_do_not_divide_the_batches(tmp_path):
    # Of four batches, Keras takes three in one epoch and one in the next. Where a pass is over, a
    # resumed run is the same; elsewhere, Keras begins with three.
    expected, whole = script(tmp_path / "whole", steps_per_epoch=3)
    assert whole.epoch == 3
    for epoch in (2, 4):
        weights, dataset = resumed(tmp_path / str(epoch), (epoch, None), steps_per_epoch=3)
        assert_same_bits(weights, expected)
        assert dataset.epoch == 3


@pytest.mark.parametrize("given", [{}, {"initial_epoch": 2}])
def test_the_first_epoch_given_to_fit(given):
    def fit(dataset, **epochs):
        model = make_model()
        model.fit(dataset, shuffle=False, verbose=0, **epochs)
        assert dataset.epoch == 4
        return model.get_weights()

    expected = fit(ArrayDataset(X, Y, 25, **DRAWN, initial_epoch=2), epochs=2)
    weights = fit(ArrayDataset(X, Y, 25, **DRAWN, **given), initial_epoch=2, epochs=4)
    assert_same_bits(weights, expected)


@pytest.mark.shared_out
@pytest.mark.parametrize("numbered", [False, True])
def test_two_phases_on_one_data_set(tmp_path, numbered):
    """The second `fit` goes on with the epochs of the first, even where it is resumed."""

    def phases(folder, *callbacks):
        model, dataset = make_model(), Seen(X, Y, 25, **DRAWN)
        model.fit(dataset, epochs=2, shuffle=False, verbose=0)
        backup = keras.callbacks.BackupAndRestore(folder)
        first = {"initial_epoch": 2, "epochs": 6} if numbered else {"epochs": 4}
        model.fit(dataset, shuffle=False, verbose=0, callbacks=[backup, *callbacks], **first)
        return model.get_weights(), dataset

    expected, whole = phases(tmp_path / "whole")
    assert whole.epoch == 6
    with pytest.raises(Interrupted):
        phases(tmp_path / "cut", Interrupt(4 if numbered else 2))
    weights, dataset = phases(tmp_path / "cut")
    assert_same_bits(weights, expected)
    assert dataset.epoch == 6


def test_the_same_model_and_data_set_go_on_after_an_exception():
    def fit(model, dataset, *callbacks, **arguments):
        model.fit(dataset, shuffle=False, verbose=0, callbacks=list(callbacks), **arguments)

    whole, cut = make_model(), make_model()
    fit(whole, ArrayDataset(X, Y, 25, **DRAWN), epochs=4)
    dataset = ArrayDataset(X, Y, 25, **DRAWN)
    with pytest.raises(Interrupted):
        fit(cut, dataset, Interrupt(2), epochs=4)
    assert dataset.epoch == 2
    fit(cut, dataset, epochs=4, initial_epoch=2)
    assert dataset.epoch == 4
    assert_same_bits(cut.get_weights(), whole.get_weights())


def test_stopping_early_leaves_the_epoch_to_be_shown_anew():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    dataset = Seen(X, Y, 25, **DRAWN)
    make_model().fit(dataset, epochs=4, shuffle=False, verbose=0, callbacks=[Stop()])
    assert dataset.epoch == 0
    dataset.seen.clear()
    make_model().fit(dataset, epochs=1, shuffle=False, verbose=0)
    assert [seen for seen in dataset.seen if seen[1] == 3] == [(0, 3)]
    assert dataset.epoch == 1


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("steps", [None, 1, 2, 3, 5, 9])
def test_batches_of_epochs_by_counting(number, steps):
    """As Keras counts: batch after batch, and a pass ends with its last one."""
    position = 0
    for epoch in range(12):
        passed = position - position % number
        assert module._batches_of(epoch, steps, number) == (passed, position)
        for _ in range(steps or number):
            position += 1
            if position % number == 0:
                break
