import random
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from keras_lpl.data import ArrayDataset, class_counts, class_probabilities
from keras_lpl.data.sampling import SAMPLINGS
from tests.data.test_sampling import follows

COUNTS = [60, 25, 10, 5]
Y = np.random.RandomState(0).permutation(np.repeat(np.arange(4), COUNTS))
# Inputs say which sample they are.
X = np.stack([np.arange(100), np.arange(100) ** 2], axis=1).astype("float32")


def take(dataset):
    """One epoch as `(samples, labels)`."""
    xs, ys = zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    return np.concatenate(xs)[:, 0].astype(int), np.concatenate(ys)


def epochs(dataset, number):
    """The next epochs, as a training loop of one's own takes them."""
    taken = []
    for _ in range(number):
        xs, ys = zip(*dataset, strict=True)
        dataset.on_epoch_end()
        taken.append((np.concatenate(xs)[:, 0].astype(int), np.concatenate(ys)))
    return taken


def assert_equal_epochs(one, other):
    assert len(one) == len(other)
    for (samples, labels), (other_samples, other_labels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(samples, other_samples)
        np.testing.assert_array_equal(labels, other_labels)


# --- What an epoch shows --------------------------------------------------------------------


def test_every_sample_once_an_epoch_in_a_new_order():
    dataset = ArrayDataset(X, Y, 30)
    assert len(dataset) == 4
    assert [len(dataset[i][1]) for i in range(4)] == [30, 30, 30, 10]
    orders = epochs(dataset, 3)
    for samples, labels in orders:
        assert sorted(samples) == list(range(100))
        np.testing.assert_array_equal(labels, Y[samples])
    assert len({tuple(samples) for samples, _ in orders}) == 3


def test_without_shuffling_the_order_is_kept_and_labels_still_change():
    for samples, labels in epochs(ArrayDataset(X, Y, 30, shuffle=False), 2):
        np.testing.assert_array_equal(samples, np.arange(100))
        np.testing.assert_array_equal(labels, Y)
    first, second = epochs(ArrayDataset(X, Y, 30, shuffle=False, disturb_rate=0.5), 2)
    np.testing.assert_array_equal(first[0], np.arange(100))
    assert not np.array_equal(first[1], Y)
    assert not np.array_equal(first[1], second[1])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_classes_are_drawn_as_often_as_they_should(sampling):
    taken = epochs(ArrayDataset(X, Y, 32, sampling=sampling), 50)
    for samples, labels in taken:
        assert len(samples) == 100
        np.testing.assert_array_equal(labels, Y[samples])
    drawn = np.bincount(np.concatenate([labels for _, labels in taken]), minlength=4)
    assert follows(drawn, class_probabilities(COUNTS, sampling))
    for other in set(SAMPLINGS) - {sampling}:
        assert not follows(drawn, class_probabilities(COUNTS, other))
    assert len({tuple(samples) for samples, _ in taken}) == 50


def test_labels_are_disturbed_after_sampling():
    taken = epochs(ArrayDataset(X, Y, 32, sampling="class_balanced", disturb_rate=0.2), 50)
    samples, labels = (np.concatenate(parts) for parts in zip(*taken, strict=True))
    kept = int((labels == Y[samples]).sum())
    assert follows([kept, len(labels) - kept], [1 - 0.2 * 3 / 4, 0.2 * 3 / 4])
    # Balanced and then redrawn uniformly is balanced still.
    assert follows(np.bincount(labels, minlength=4), np.full(4, 0.25))


@pytest.mark.parametrize("sampling", [None, "reversed"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_label_forms(sampling, rate):
    samples, expected = take(ArrayDataset(X, Y, 32, sampling=sampling, disturb_rate=rate))
    for dtype in ("int64", "uint8", "float32"):
        forms = {"flat": Y, "column": Y[:, None], "one-hot": np.eye(4)[Y]}
        for form, labels in forms.items():
            dataset = ArrayDataset(
                X, labels.astype(dtype), 32, sampling=sampling, disturb_rate=rate
            )
            same, out = take(dataset)
            np.testing.assert_array_equal(same, samples)
            assert out.dtype == dtype
            assert out.shape == labels.shape
            ids = out.argmax(axis=1) if form == "one-hot" else out.reshape(-1)
            np.testing.assert_array_equal(ids, expected)


def test_soft_labels_and_other_targets_pass():
    targets = np.random.RandomState(0).normal(size=(100, 3))
    samples, out = take(ArrayDataset(X, targets, 32))
    np.testing.assert_array_equal(out, targets[samples])
    soft = 0.8 * np.eye(4)[Y] + 0.05
    samples, out = take(ArrayDataset(X, soft, 32, sampling="reversed"))
    np.testing.assert_array_equal(out, soft[samples])


def test_the_arrays_are_left_alone():
    x, y = X.copy(), Y.copy()
    for x_batch, y_batch in ArrayDataset(x, y, 32, shuffle=False, disturb_rate=0.5):
        x_batch += 1
        y_batch += 1
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_tensors_of_the_backend_are_taken():
    x, y = keras.ops.convert_to_tensor(X), keras.ops.convert_to_tensor(Y)
    samples, labels = take(ArrayDataset(x, y, 32))
    np.testing.assert_array_equal(labels, Y[samples])


def test_labels_held_as_objects():
    samples, labels = take(ArrayDataset(X, Y.astype(object), 32, **DRAWN))
    expected_samples, expected = take(ArrayDataset(X, Y, 32, **DRAWN))
    np.testing.assert_array_equal(samples, expected_samples)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == "int64"


# --- Reproducibility ------------------------------------------------------------------------

DRAWN = {"sampling": "class_balanced", "disturb_rate": 0.3}


def test_one_seed_one_sequence_of_epochs():
    first, again, other = (epochs(ArrayDataset(X, Y, 32, seed, **DRAWN), 3) for seed in (1, 1, 2))
    assert_equal_epochs(first, again)
    for (samples, labels), (other_samples, other_labels) in zip(first, other, strict=True):
        assert not np.array_equal(samples, other_samples)
        assert not np.array_equal(labels, other_labels)


def test_initial_epoch_goes_on_where_a_run_stopped():
    whole = epochs(ArrayDataset(X, Y, 32, **DRAWN), 4)
    rest = epochs(ArrayDataset(X, Y, 32, initial_epoch=2, **DRAWN), 2)
    assert_equal_epochs(rest, whole[2:])


def test_the_batch_size_does_not_matter_to_the_draw():
    assert_equal_epochs(
        epochs(ArrayDataset(X, Y, 32, **DRAWN), 2), epochs(ArrayDataset(X, Y, 7, **DRAWN), 2)
    )


def test_global_random_states_do_not_matter():
    def drawn(seed):
        keras.utils.set_random_seed(seed)
        return epochs(ArrayDataset(X, Y, 32, **DRAWN), 2)

    assert_equal_epochs(drawn(1), drawn(2))


def test_the_order_in_which_batches_are_asked_for_does_not_matter():
    plain = ArrayDataset(X, Y, 7, **DRAWN)
    expected = [plain[i] for i in range(len(plain))]
    order = list(range(len(plain)))
    random.Random(0).shuffle(order)
    for indices in (order, reversed(range(len(plain))), [3, 3]):
        dataset = ArrayDataset(X, Y, 7, **DRAWN)
        for i in indices:
            np.testing.assert_array_equal(dataset[i][0], expected[i][0])
            np.testing.assert_array_equal(dataset[i][1], expected[i][1])


def test_threads_do_not_matter():
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(5):
            dataset = ArrayDataset(X, Y, 1, initial_epoch=attempt, **DRAWN)
            batches = list(pool.map(dataset.__getitem__, range(100)))
            expected = ArrayDataset(X, Y, 1, initial_epoch=attempt, **DRAWN)
            for i, (x, y) in enumerate(batches):
                np.testing.assert_array_equal(x, expected[i][0])
                np.testing.assert_array_equal(y, expected[i][1])


def test_the_drawn_samples_are_pinned():
    # A change here changes every run that resamples or disturbs.
    dataset = ArrayDataset(X[:9], [0, 0, 0, 0, 0, 1, 1, 2, 2], 4, 6, initial_epoch=2, **DRAWN)
    samples, labels = take(dataset)
    assert samples.tolist() == [1, 2, 6, 6, 5, 0, 4, 2, 7]
    assert labels.tolist() == [0, 0, 1, 0, 1, 0, 0, 0, 2]


# --- When an epoch is over ------------------------------------------------------------------


def test_looking_at_batches_does_not_count():
    dataset = ArrayDataset(X, Y, 30)
    dataset.on_epoch_end()
    for i in range(4):
        dataset[i]
    dataset.on_epoch_end()
    assert class_counts(dataset).tolist() == COUNTS
    dataset.on_epoch_end()
    assert dataset.epoch == 0


def test_an_epoch_ends_when_all_its_batches_are_taken():
    dataset = ArrayDataset(X, Y, 30)
    # Keras with `steps_per_epoch=2`: a pass over the data takes two of its epochs.
    for part, after in [((0, 1), 0), ((2, 3), 1), ((0,), 1), ((0, 1, 2, 3), 2)]:
        dataset.on_epoch_begin()
        for i in part:
            dataset[i]
        dataset.on_epoch_end()
        assert dataset.epoch == after


def test_batches_taken_ahead_belong_to_the_pass():
    dataset = ArrayDataset(X, Y, 30, **DRAWN)
    expected = [dataset[i] for i in range(4)]
    dataset.on_epoch_begin()
    taken = [dataset[0], dataset[1]]
    dataset.on_epoch_end()
    taken.append(dataset[2])  # by a thread that reads ahead, between two epochs of Keras
    dataset.on_epoch_begin()
    taken.append(dataset[3])
    assert dataset.epoch == 0
    dataset.on_epoch_end()
    assert dataset.epoch == 1
    for (x, y), (expected_x, expected_y) in zip(taken, expected, strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_a_pass_that_was_left_is_begun_anew():
    dataset = ArrayDataset(X, Y, 30)
    dataset.on_epoch_begin()
    dataset[0]
    dataset.on_epoch_end()
    for i in (1, 2, 3):  # read ahead, and never trained on
        dataset[i]
    dataset.on_epoch_end()  # the next `fit` calls this before it begins
    assert dataset.epoch == 0
    assert len(epochs(dataset, 1)) == 1
    assert dataset.epoch == 1


def test_the_epoch_can_be_set():
    dataset = ArrayDataset(X, Y, 30, **DRAWN)
    expected = epochs(dataset, 4)
    dataset.epoch = 2
    assert_equal_epochs(epochs(dataset, 2), expected[2:])
    with pytest.raises(ValueError, match=r"`epoch` must be an integer of at least 0.*epoch=-1"):
        dataset.epoch = -1


def test_workers_are_not_used():
    dataset = ArrayDataset(X, Y, 30)
    dataset.workers, dataset.use_multiprocessing = 4, True
    assert (dataset.workers, dataset.use_multiprocessing) == (1, False)


def test_indices_out_of_range():
    dataset = ArrayDataset(X, Y, 30)
    np.testing.assert_array_equal(dataset[-1][0], dataset[3][0])
    for index in (4, -5):
        with pytest.raises(IndexError, match="out of range"):
            dataset[index]


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` must be an integer of at least 1.*Received: batch_siz"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0.*Received: seed=-1"),
        ({"initial_epoch": -1}, r"`initial_epoch`.*Received: initial_epoch=-1"),
        ({"sampling": "balanced"}, r"`sampling` must be one of \[None,.*sampling='balanced'"),
        ({"disturb_rate": 10}, r"`disturb_rate` must be.*at most 1.*Received: disturb_rate=10"),
        ({"disturb_rate": "no"}, r"`disturb_rate` must be a finite number.*Received"),
        (
            {"shuffle": False, "sampling": "instance"},
            r"`shuffle=False` keeps.*Leave one.*Received: shuffle=False, sampling='instance'",
        ),
        ({"y": np.zeros(3)}, r"same length.*Received: shapes \(100, 2\) and \(3,\)"),
        ({"x": np.zeros(100)}, r"`x` must be images.*Received: dtype float64, shape \(100,\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, r"same length, at least 1"),
        ({"x": np.zeros((100, 0))}, r"must not be empty.*Received: shapes \(100, 0\)"),
        ({"y": np.zeros((100, 0))}, r"must not be empty.*and \(100, 0\)"),
        ({"y": ["a"] * 100}, r"`y` must hold class numbers.*np\.unique.*dtype <U1"),
        ({"y": np.array(["a"] * 100, object)}, r"`y` must hold class numbers.*dtype <U1"),
        ({"y": np.array([None] * 100)}, r"`y` must hold class numbers.*dtype object"),
        (
            {"y": np.full(100, 0.5), "sampling": "instance"},
            r"`y` must be integers.*Received: y\[0\]=0\.5",
        ),
        (
            {"y": np.full(100, -1), "disturb_rate": 0.1},
            r"`y` must not be negative.*Received: y\[0\]=-1",
        ),
        (
            {"y": np.ones((100, 3)), "disturb_rate": 0.1},
            r"Each row of `y` must be one-hot or soft.*Received: row 0",
        ),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        ArrayDataset(**{"x": X, "y": Y, "batch_size": 32, **changes})
