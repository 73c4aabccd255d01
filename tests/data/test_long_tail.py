import itertools

import numpy as np
import pytest

from keras_lpl.data import long_tail_counts, long_tail_indices

LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 100))


# --- Counts ---------------------------------------------------------------------------------


def test_cifar10_lt_exactly():
    counts = long_tail_counts(10, 5000, 100)
    assert counts.dtype == "int64"
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


@pytest.mark.parametrize(
    ("num_classes", "max_count", "factor", "total", "last"),
    [
        (10, 5000, 100, 12406, 50),
        (10, 5000, 10, 20431, 500),
        (100, 500, 100, 10847, 5),
        (100, 500, 10, 19573, 50),
    ],
)
def test_totals_of_the_published_splits(num_classes, max_count, factor, total, last):
    counts = long_tail_counts(num_classes, max_count, factor)
    assert counts.sum() == total
    assert counts[0] == max_count
    assert counts[-1] == last


def test_exponential_profile_is_the_formula():
    for factor in (1, 2.5, 20, 50, 100, 256):
        naive = [int(500 * (1 / factor) ** (c / 36)) for c in range(37)]
        assert long_tail_counts(37, 500, factor).tolist() == naive


def test_rounding_never_costs_the_last_image():
    assert int(49 * (1 / 49)) == 0
    for factor in range(1, 400):
        assert long_tail_counts(2, factor, factor).tolist() == [factor, 1]


def test_balanced():
    for profile in ("exponential", "step"):
        assert long_tail_counts(3, 7, 1, profile).tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("num_classes", "expected"), [(4, [100, 100, 10, 10]), (5, [100, 100, 10, 10, 10])]
)
def test_step_profile(num_classes, expected):
    assert long_tail_counts(num_classes, 100, 10, profile="step").tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 100, 10), r"`num_classes` must be an integer of at least 2.*Received: num_classes=1"),
        ((10.0, 100, 10), r"`num_classes`.*Received: num_classes=10\.0"),
        ((10, 0, 10), r"`max_count`.*at least 1.*Received: max_count=0"),
        ((10, True, 10), r"`max_count`.*Received: max_count=True"),
        ((10, 100, 0.01), r"`imbalance_factor`.*\(100, not 0\.01\).*Received: .*=0\.01"),
        ((10, 100, float("nan")), r"`imbalance_factor`.*Received: imbalance_factor=nan"),
        ((10, 100, float("inf")), r"`imbalance_factor`.*Received: imbalance_factor=inf"),
        ((10, 100, "10"), r"`imbalance_factor`.*Received: imbalance_factor='10'"),
        ((10, 100, 101), r"must not exceed `max_count`.*Received: imbalance_factor=101, max_c"),
        ((10, 100, 10, "linear"), r"`profile` must be one of.*Received: profile='linear'"),
    ],
)
def test_bad_counts_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        long_tail_counts(*arguments)


# --- Indices --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, None])
def test_indices_have_the_counts_without_repeats(seed):
    counts = long_tail_counts(10, 100, 50)
    indices = long_tail_indices(LABELS, counts, seed)
    assert indices.dtype == "int64"
    assert len(set(indices.tolist())) == len(indices)
    assert (np.diff(indices) > 0).all()
    np.testing.assert_array_equal(np.bincount(LABELS[indices], minlength=10), counts)


def test_seeds():
    counts = long_tail_counts(10, 90, 50)
    first, again, other = (long_tail_indices(LABELS, counts, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_drawn_samples_are_pinned():
    # A change here changes every published subset.
    indices = long_tail_indices(np.arange(60) % 3, [5, 3, 1], seed=3)
    assert indices.tolist() == [3, 27, 28, 33, 35, 39, 45, 52, 58]


def test_no_seed_takes_the_first_of_each_class():
    indices = long_tail_indices([1, 0, 1, 0, 0, 1, 1], [2, 3], seed=None)
    assert indices.tolist() == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("seed", [0, 3, None])
def test_a_higher_factor_picks_a_part_of_what_a_lower_one_picks(seed):
    factors = (1, 2, 10, 50, 100)
    subsets = [
        set(long_tail_indices(LABELS, long_tail_counts(10, 100, factor), seed).tolist())
        for factor in factors
    ]
    assert all(larger > smaller for larger, smaller in itertools.pairwise(subsets))


def test_numpys_global_state_is_neither_read_nor_changed():
    counts = long_tail_counts(10, 90, 50)
    np.random.seed(0)  # noqa: NPY002
    first = long_tail_indices(LABELS, counts, seed=5)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002
    np.testing.assert_array_equal(long_tail_indices(LABELS, counts, seed=5), first)


def test_every_sample_can_be_drawn_and_classes_are_drawn_apart():
    drawn = np.zeros(40)
    for seed in range(200):
        drawn[long_tail_indices(np.arange(40) % 2, [10, 10], seed)] += 1
    # Binomial, 200 draws with probability 1/2: 5 standard deviations are 35.
    assert (abs(drawn - 100) < 36).all()
    zeros, ones = drawn[::2], drawn[1::2]
    assert not np.array_equal(zeros, ones)


def test_label_forms_give_the_same_subset():
    counts = long_tail_counts(10, 50, 10)
    expected = long_tail_indices(LABELS, counts)
    for labels in (LABELS.tolist(), LABELS[:, None], np.eye(10)[LABELS]):
        np.testing.assert_array_equal(long_tail_indices(labels, counts), expected)


def test_zero_leaves_a_class_out():
    assert long_tail_indices([0, 1, 1], [0, 2]).tolist() == [1, 2]


def test_counts_by_key():
    labels = np.arange(90) % 3
    expected = long_tail_indices(labels, [20, 10, 5])
    np.testing.assert_array_equal(long_tail_indices(labels, {2: 5, 0: 20, 1: 10}), expected)
    np.testing.assert_array_equal(long_tail_indices(labels.astype("uint8"), [20, 10, 5]), expected)


@pytest.mark.parametrize(
    ("labels", "counts", "seed", "message"),
    [
        ([0, 0, 1], [2, 2], 0, r"Class 1 has fewer.*`max_count`.*counts\[1\]=2, 1 samples of cl"),
        ([0, 2], [1, 1], 0, r"below the number of classes, 2.*Received: labels\[1\]=2"),
        ([0, 1], [1, -1], 0, r"`counts` must be.*Received: counts=\[1, -1\]"),
        ([0, 1], [1.0, 1.0], 0, r"`counts` must be a list of integers.*Received: counts="),
        ([0, 1], [[1, 1]], 0, r"`counts`.*shape \(C,\)"),
        ([0, 1], [], 0, r"`counts`"),
        ([0, 1], [True, True], 0, r"`counts` must be a list of integers"),
        ([0, 1], ["1", "1"], 0, r"`counts` must be a list of integers"),
        ([0, 1], {"a": 1, "b": 1}, 0, r"`counts` is read by its keys.*the key 'a'"),
        ([0, 1], {1, 2}, 0, r"`counts` must be a flat sequence.*of type set"),
        ([0, 1], [10**400, 1], 0, r"Class 0 has fewer samples"),
        ([0, 1], [1, 1], -1, r"`seed` must be an integer of at least 0.*Received: seed=-1"),
        ([0, 1], [1, 1], 0.5, r"`seed`.*Received: seed=0\.5"),
        ([0, 1], [1, 1], 2**32, r"`seed` must be below 2\*\*32"),
    ],
)
def test_bad_indices_arguments(labels, counts, seed, message):
    with pytest.raises(ValueError, match=message):
        long_tail_indices(labels, counts, seed)
