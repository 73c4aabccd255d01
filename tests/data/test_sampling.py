import math

import keras
import numpy as np
import pytest

from keras_lpl.data import class_probabilities, disturb_labels, sample_indices
from keras_lpl.data.sampling import SAMPLINGS, EpochDraws

COUNTS = [60, 25, 10, 5]
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(4), COUNTS))
EXPECTED = {
    "class_balanced": [1 / 4, 1 / 4, 1 / 4, 1 / 4],
    # 1/60, 1/25, 1/10, 1/5, times 300: 5, 12, 30, 60.
    "reversed": [5 / 107, 12 / 107, 30 / 107, 60 / 107],
    "instance": [0.60, 0.25, 0.10, 0.05],
}


def follows(observed, probabilities, deviations=4):
    """Whether counts agree with probabilities: chi-square, by Wilson and Hilferty's bound."""
    expected = np.sum(observed) * np.asarray(probabilities)
    chi_square = np.sum((observed - expected) ** 2 / expected)
    freedom = len(expected) - 1
    spread = 2 / (9 * freedom)
    return chi_square < freedom * (1 - spread + deviations * math.sqrt(spread)) ** 3


# --- Probabilities --------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_probabilities_by_hand(sampling):
    probabilities = class_probabilities(COUNTS, sampling)
    assert probabilities.dtype == "float64"
    np.testing.assert_allclose(probabilities, EXPECTED[sampling], rtol=1e-14)


def test_reversed_is_the_share_of_the_largest_count():
    # As BBN prints it: w_c = N_max / N_c, p_c = w_c / sum w.
    weights = max(COUNTS) / np.array(COUNTS)
    np.testing.assert_allclose(
        class_probabilities(COUNTS, "reversed"), weights / weights.sum(), rtol=1e-14
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_probabilities_by_law(sampling):
    probabilities = class_probabilities(COUNTS, sampling)
    assert probabilities.sum() == pytest.approx(1, rel=1e-14)
    order = np.random.RandomState(0).permutation(4)
    relabelled = class_probabilities(np.array(COUNTS)[order], sampling)
    np.testing.assert_allclose(relabelled, probabilities[order], rtol=1e-14)
    np.testing.assert_allclose(
        class_probabilities(7 * np.array(COUNTS), sampling), probabilities, rtol=1e-14
    )
    # Where all classes have the same count, every sampler is the same.
    np.testing.assert_allclose(class_probabilities([3, 3, 3, 3, 3], sampling), 0.2, rtol=1e-14)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_class_without_samples_is_left_out(sampling):
    probabilities = class_probabilities([0, *COUNTS[:2], 0, *COUNTS[2:], 0], sampling)
    assert probabilities[[0, 3, 6]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(probabilities[[1, 2, 4, 5]], EXPECTED[sampling], rtol=1e-14)


def test_counts_by_key():
    by_key = {3: 5, 1: 25, 0: 60, 2: 10}
    np.testing.assert_allclose(class_probabilities(by_key, "instance"), EXPECTED["instance"])
    with pytest.raises(ValueError, match=r"`class_counts` is read by its keys.*the keys \[0, 2\]"):
        class_probabilities({2: 5, 0: 6}, "instance")


def test_counts_as_a_tensor():
    counts = keras.ops.convert_to_tensor(np.array(COUNTS))
    np.testing.assert_allclose(class_probabilities(counts, "instance"), EXPECTED["instance"])


# --- Samples --------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_classes_are_drawn_as_often_as_they_should(sampling):
    drawn = np.bincount(LABELS[sample_indices(LABELS, sampling, size=20000)], minlength=4)
    assert follows(drawn, EXPECTED[sampling])
    # The tolerance is fine enough to tell samplers apart, and a shift of a tenth.
    assert not any(follows(drawn, EXPECTED[other]) for other in set(SAMPLINGS) - {sampling})
    shifted = np.array(EXPECTED[sampling]) * [1.1, 0.9, 1.1, 0.9]
    assert not follows(drawn, shifted / shifted.sum())


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "uint16", "uint64", "float16", "float32", "object", "bool"]
)
def test_labels_of_every_type(dtype):
    labels = (LABELS % 2 if dtype == "bool" else LABELS).astype(dtype)
    expected = sample_indices(labels.astype("int64"), size=500)
    np.testing.assert_array_equal(sample_indices(labels, size=500), expected)
    disturbed = disturb_labels(labels, num_classes=2 if dtype == "bool" else 4, rate=0.5)
    wide = disturb_labels(labels.astype("int64"), num_classes=2 if dtype == "bool" else 4, rate=0.5)
    np.testing.assert_array_equal(disturbed.astype("int64"), wide)
    assert disturbed.dtype == ("int64" if dtype == "object" else dtype)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_samples_of_a_class_are_drawn_alike(sampling):
    drawn = np.bincount(sample_indices(LABELS, sampling, size=20000), minlength=100)
    for label in range(4):
        members = drawn[label == LABELS]
        assert (members > 0).all()
        assert follows(members, np.full(len(members), 1 / len(members)))


def test_instance_sampling_draws_every_sample_alike():
    drawn = np.bincount(sample_indices(LABELS, "instance", size=20000), minlength=100)
    assert follows(drawn, np.full(100, 0.01))


def test_the_default_is_class_balanced_and_as_many_as_there_are():
    indices = sample_indices(LABELS)
    assert indices.dtype == "int64"
    assert indices.shape == (100,)
    np.testing.assert_array_equal(
        indices, sample_indices(LABELS, "class_balanced", size=100, seed=0)
    )


def test_the_order_is_random():
    labels = LABELS[sample_indices(LABELS, size=4000)]
    # Neighbours of the same class: a quarter of the pairs, by chance alone.
    same = int((labels[1:] == labels[:-1]).sum())
    assert follows([same, 3999 - same], [0.25, 0.75])


def test_seeds():
    first, again, other = (sample_indices(LABELS, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_drawn_samples_are_pinned():
    # A change here changes every run that resamples.
    assert sample_indices([0, 0, 0, 1, 1, 2], size=8, seed=3).tolist() == [4, 5, 2, 3, 5, 5, 0, 0]


def test_numpys_global_state_is_neither_read_nor_changed():
    np.random.seed(0)  # noqa: NPY002
    drawn = sample_indices(LABELS), disturb_labels(LABELS, 4, 0.5)
    EpochDraws(LABELS, None, 0.5, seed=0)(0)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002
    np.testing.assert_array_equal(sample_indices(LABELS), drawn[0])
    np.testing.assert_array_equal(disturb_labels(LABELS, 4, 0.5), drawn[1])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_label_forms_give_the_same_samples(sampling):
    expected = sample_indices(LABELS, sampling)
    one_hot = np.eye(4, dtype="float32")[LABELS]
    forms = [LABELS.tolist(), LABELS[:, None], one_hot, 0.8 * one_hot + 0.05]
    forms.append(keras.ops.convert_to_tensor(LABELS))
    for labels in forms:
        np.testing.assert_array_equal(sample_indices(labels, sampling), expected)


def test_missing_classes_and_a_single_class():
    labels = np.array([5, 5, 2, 5])
    drawn = labels[sample_indices(labels, size=4000)]
    assert set(drawn) == {2, 5}
    assert follows([(drawn == 2).sum(), (drawn == 5).sum()], [0.5, 0.5])
    assert set(sample_indices([0, 0, 0], "reversed", size=100)) == {0, 1, 2}


# --- Disturbed labels -----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_disturbed_labels_follow_the_papers_distribution(rate):
    classes = 5
    for label in range(classes):
        disturbed = disturb_labels(np.full(20000, label), classes, rate, seed=label)
        expected = np.full(classes, rate / classes)
        expected[label] = 1 - rate * (classes - 1) / classes
        observed = np.bincount(disturbed, minlength=classes)
        assert follows(observed, expected)
        # Never drawing the class that was: what "with probability alpha, a wrong label" would be.
        wrong = np.full(classes, rate / (classes - 1))
        wrong[label] = 1 - rate
        assert not follows(observed, np.maximum(wrong, 1e-9))


def test_rate_zero_changes_nothing():
    np.testing.assert_array_equal(disturb_labels(LABELS, 4, 0), LABELS)


def test_the_disturbed_labels_are_pinned():
    assert disturb_labels(np.zeros(12, "int64"), 4, 0.5, seed=3).tolist() == [
        0,
        0,
        1,
        0,
        0,
        0,
        2,
        3,
        0,
        1,
        3,
        2,
    ]


def test_disturbing_seeds():
    first, again, other = (disturb_labels(LABELS, 4, 0.5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float16"])
@pytest.mark.parametrize("form", ["flat", "column", "one-hot"])
def test_disturbed_labels_keep_their_form(form, dtype):
    expected = disturb_labels(LABELS, 4, 0.5)
    labels = {"flat": LABELS, "column": LABELS[:, None], "one-hot": np.eye(4)[LABELS]}[form]
    labels = labels.astype(dtype)
    before = labels.copy()
    disturbed = disturb_labels(labels, 4, 0.5)
    assert disturbed.dtype == dtype
    assert disturbed.shape == labels.shape
    np.testing.assert_array_equal(labels, before)
    if form == "one-hot":
        assert set(np.unique(disturbed)) == {0, 1}
        np.testing.assert_array_equal(disturbed.sum(axis=1), 1)
        disturbed = disturbed.argmax(axis=1)
    np.testing.assert_array_equal(disturbed.reshape(-1), expected)


def test_boolean_one_hot_labels_are_disturbed():
    disturbed = disturb_labels(np.eye(4, dtype=bool)[LABELS], 4, 0.5)
    assert disturbed.dtype == bool
    np.testing.assert_array_equal(disturbed.argmax(axis=1), disturb_labels(LABELS, 4, 0.5))


def test_a_soft_label_stays_soft_or_becomes_one_hot():
    soft = 0.8 * np.eye(4)[LABELS] + 0.05
    disturbed = disturb_labels(soft, 4, 0.5)
    kept = (disturbed == soft).all(axis=1)
    one_hot = (np.sort(disturbed, axis=1) == [0, 0, 0, 1]).all(axis=1)
    assert (kept ^ one_hot).all()
    assert 30 < kept.sum() < 70


def test_classes_beyond_those_that_occur_can_be_drawn():
    assert set(disturb_labels(np.zeros(1000, "int64"), 7, 0.5)) == set(range(7))


def test_disturbing_nothing():
    assert disturb_labels(np.zeros(0, "int64"), 3, 0.5).shape == (0,)


# --- Epochs ---------------------------------------------------------------------------------


def test_an_epoch_depends_on_its_number_and_the_seed_alone():
    draws = EpochDraws(LABELS, "reversed", 0.3, seed=4)
    epochs = {epoch: draws(epoch)[:2] for epoch in (5, 0, 3)}
    for epoch, drawn in epochs.items():
        again = EpochDraws(LABELS, "reversed", 0.3, seed=4)(epoch)[:2]
        np.testing.assert_array_equal(drawn, again)
        assert not np.array_equal(drawn, EpochDraws(LABELS, "reversed", 0.3, seed=5)(epoch)[:2])
    assert not np.array_equal(epochs[0], epochs[3])


@pytest.mark.parametrize("batch_size", [4, 7, 1000])
def test_pairs_are_batches_of_both_samplers_in_turn(batch_size):
    draws = EpochDraws(LABELS, "paired", 0.0, seed=4, batch_size=batch_size)
    samples, places, _ = draws(2)
    size = len(LABELS)
    assert (draws.size, draws.batch_size) == (2 * size, 2 * batch_size)
    first, second = [], []
    for start in range(0, 2 * size, draws.batch_size):
        rows = samples[start : start + draws.batch_size]
        first += list(rows[: len(rows) // 2])
        second += list(rows[len(rows) // 2 :])
    np.testing.assert_array_equal(first, EpochDraws(LABELS, None, 0.0, seed=4)(2)[0])
    np.testing.assert_array_equal(places, samples)
    counts = np.bincount(LABELS)
    drawn = np.zeros(len(counts))
    for epoch in range(50):
        samples, _, _ = EpochDraws(LABELS, "paired", 0.0, 0, batch_size=size)(epoch)
        drawn += np.bincount(LABELS[samples[size:]], minlength=len(counts))
    assert follows(drawn, class_probabilities(counts, "reversed"))


@pytest.mark.parametrize("sampling", [None, "paired", *SAMPLINGS])
def test_disturbing_does_not_change_the_samples_or_the_other_draws(sampling):
    samples, places, random = EpochDraws(LABELS, sampling, 0.0, seed=2)(7)
    np.testing.assert_array_equal(places, samples)
    disturbed, _, other = EpochDraws(LABELS, sampling, 0.4, seed=2)(7)
    np.testing.assert_array_equal(disturbed, samples)
    assert random.random_sample() == other.random_sample()


def test_epochs_disturb_the_expected_share_and_not_always_the_same():
    labels = np.repeat(np.arange(4), 1000)
    draws = EpochDraws(labels, None, 0.4, seed=0)
    changed = np.zeros(4000)
    for epoch in range(5):
        samples, places, _ = draws(epoch)
        changed[samples] += draws.labels[places] != labels[samples]
    share = 0.4 * 3 / 4
    times = np.bincount(changed.astype(int), minlength=6)
    assert follows(times, [math.comb(5, k) * share**k * (1 - share) ** (5 - k) for k in range(6)])


def test_labels_that_are_no_classes_pass_where_nothing_is_drawn_by_class():
    targets = np.random.RandomState(0).normal(size=(10, 2, 3))
    samples, places, _ = EpochDraws(targets, None, 0.0, seed=0)(0)
    assert sorted(samples) == list(range(10))
    np.testing.assert_array_equal(places, samples)


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([5, 3], "balanced"), r"`sampling` must be one of .*Received: sampling='balanced'"),
        (([5, 3], None), r"`sampling` must be one of .*Received: sampling=None"),
        (([5, -3], "instance"), r"`class_counts` .*not negative.*Received: class_counts\[1\]=-3"),
        (([0, 0], "instance"), r"at least one sample.*Received: class_counts=\[0, 0\]"),
        (([[5, 3]], "instance"), r"`class_counts` must be a flat sequence.*Received: class_co"),
    ],
)
def test_bad_probabilities_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        class_probabilities(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": []}, r"`labels` must hold at least one.*Received: labels=\[\]"),
        ({"labels": [0, -1]}, r"`labels` must not be negative.*Received: labels\[1\]=-1"),
        ({"labels": [0, 10**9]}, r"`labels` .*without large gaps.*labels\[1\]=1000000000"),
        ({"labels": np.array([1, 2**64 - 1], "uint64")}, r"large gaps.*=18446744073709551615"),
        ({"labels": ["a", "b"]}, r"`labels` must hold class numbers.*Received: an array of dtype"),
        ({"sampling": None}, r"`sampling` must be one of .*Received: sampling=None"),
        ({"size": 0}, r"`size` must be an integer of at least 1.*Received: size=0"),
        ({"size": 1.5}, r"`size` must be an integer.*Received: size=1\.5"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0.*Received: seed=-1"),
        ({"seed": 2**32}, r"`seed` must be below 2\*\*32"),
    ],
)
def test_bad_sampling_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        sample_indices(**{"labels": [0, 1], **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": -0.1}, r"`rate` must be a finite number at least 0 and at most 1.*=-0\.1"),
        ({"rate": 10}, r"`rate` must be.*at most 1.*Received: rate=10"),
        ({"rate": float("nan")}, r"`rate` must be.*Received: rate=nan"),
        ({"num_classes": 1}, r"`num_classes` must be an integer of at least 2.*Received"),
        ({"num_classes": 2}, r"`labels` must be below the number of classes, 2.*labels\[2\]=2"),
        ({"labels": np.eye(3)}, r"`labels` must have one column per class.*\(3, 3\), num_classes"),
        ({"labels": [[0.7, 0.7, 0, 0]]}, r"Each row of `labels` must be one-hot or soft.*row 0"),
        ({"labels": [0, 0.5]}, r"`labels` must be integers.*Received: labels\[1\]=0\.5"),
        (
            {"labels": np.zeros(3, "uint8"), "num_classes": 300},
            r"`labels` must be of a dtype .*int64.*Received: dtype uint8, num_classes=300",
        ),
        (
            # 2049 to 2051 are none of its numbers, 2052 is.
            {"labels": np.zeros(3, "float16"), "num_classes": 2053},
            r"`labels` must be of a dtype .*int64.*Received: dtype float16, num_classes=2053",
        ),
        ({"labels": ["a", "b"]}, r"`labels` must hold class numbers.*np\.unique"),
        ({"seed": 0.5}, r"`seed` must be an integer.*Received: seed=0\.5"),
    ],
)
def test_bad_disturbing_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        disturb_labels(**{"labels": [0, 1, 2], "num_classes": 4, "rate": 0.1, **changes})
