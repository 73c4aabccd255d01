"""Counts as they are passed to a loss: in any form, in any order, and in none that is not clear."""

import collections
import json

import keras
import numpy as np
import pytest

import keras_lpl
from keras_lpl.core import checks

COUNTS = [50, 7, 300, 20]


class Series:
    """What a pandas Series shows of itself: values, and keys of their own."""

    def __init__(self, values, index):
        self.values, self.index = np.asarray(values), np.asarray(index)
        self.shape = self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        return self.values[self.index.tolist().index(key)]

    def __repr__(self):
        return f"Series({self.values}, index={self.index})"


LABELS = np.repeat(range(4), COUNTS)
# As `value_counts` and `most_common` give them: the most frequent class first.
ORDER = [2, 0, 3, 1]
BY_KEY = {
    "dict": {key: COUNTS[key] for key in ORDER},
    "numpy keys": {np.int64(key): np.int32(COUNTS[key]) for key in ORDER},
    "Counter": collections.Counter(LABELS.tolist()),
    "most common": collections.OrderedDict(collections.Counter(LABELS.tolist()).most_common()),
    "Series": Series([COUNTS[key] for key in ORDER], ORDER),
}
IN_ORDER = {
    "list": COUNTS,
    "tuple": tuple(COUNTS),
    "array": np.array(COUNTS),
    "uint8 and more": np.array(COUNTS, "uint16"),
    "floats": np.array(COUNTS, "float32"),
    "objects": np.array(COUNTS, object),
    "tensor": keras.ops.convert_to_tensor(COUNTS),
    "tensors": [keras.ops.convert_to_tensor(count) for count in COUNTS],
    "deque": collections.deque(COUNTS),
}


@pytest.mark.parametrize("form", [*BY_KEY, *IN_ORDER])
def test_every_form_is_read_in_the_order_of_the_classes(form):
    counts = {**BY_KEY, **IN_ORDER}[form]
    assert checks.class_counts(counts) == tuple(COUNTS)
    assert all(type(count) is int for count in checks.class_counts(counts))


@pytest.mark.parametrize("form", BY_KEY)
@pytest.mark.parametrize(
    "loss",
    [
        keras_lpl.LPLLoss,
        keras_lpl.LogitAdjustmentLoss,
        keras_lpl.LDAMLoss,
        keras_lpl.VSLoss,
        keras_lpl.ClassBalancedLoss,
    ],
)
def test_a_loss_is_the_same_whatever_the_order(loss, form, rng):
    y, logits = rng.integers(0, 4, 16), rng.normal(size=(16, 4)).astype("float32")
    expected = loss(class_counts=COUNTS)
    by_key = loss(class_counts=BY_KEY[form])
    assert float(by_key(y, logits)) == float(expected(y, logits))
    assert json.dumps(by_key.get_config()) == json.dumps(expected.get_config())


def test_a_series_of_pandas():
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series(LABELS)
    for counts in (
        labels.value_counts(),
        labels.astype("category").value_counts(),
        labels.astype("Int64").value_counts(),
        labels.groupby(labels).size(),
        pandas.Series(COUNTS),
    ):
        assert checks.class_counts(counts) == tuple(COUNTS)
    share = checks.class_counts(labels.value_counts(normalize=True))
    np.testing.assert_allclose(share, np.array(COUNTS) / sum(COUNTS))
    for other in (labels.astype(str), labels.astype(float), labels > 1):
        with pytest.raises(ValueError, match="read by its keys"):
            checks.class_counts(other.value_counts())
    with pytest.raises(ValueError, match="of type DataFrame"):
        checks.class_counts(pandas.DataFrame({"count": COUNTS}))


@pytest.mark.parametrize("size", [2**31, 2**31 + 1, 2**53 + 1, 2**63 - 1, float(2**40)])
def test_large_counts_stay_exact(size):
    assert checks.class_counts([size, 3]) == (int(size), 3)
    assert checks.class_counts({1: 3, 0: size}) == (int(size), 3)


def test_fractions_stay_fractions():
    assert checks.class_counts([1.25, 2.0]) == (1.25, 2)
    assert type(checks.class_counts(np.array([1.25, 2.0], "float32"))[0]) is float


WAY_OUT = r"read by its keys, which must be the class indices.*"
BAD = {
    "names": ({"cat": 5, "dog": 3}, WAY_OUT + r"`\[counts\[key\] for key in class_names\]`.*'cat'"),
    "names of a Series": (Series([5, 3], ["cat", "dog"]), WAY_OUT + r"Received: the key '?.*cat"),
    "keys of JSON": ({"0": 5, "1": 3}, WAY_OUT + r"Received: the key '0' \(of type str\)"),
    "float keys": ({0.0: 5, 1.0: 3}, WAY_OUT + r"the key 0\.0 \(of type float\)"),
    "float keys of a Series": (Series([5, 3], [1.0, 0.0]), WAY_OUT + r"\(of type float"),
    "boolean keys": ({True: 5, False: 3}, WAY_OUT + r"the key True \(of type bool\)"),
    "a class is missing": ({0: 5, 2: 3}, WAY_OUT + r"num_classes=C\)`.*the keys \[0, 2\]"),
    "classes from 1": ({1: 5, 2: 3}, WAY_OUT + r"the keys \[1, 2\]"),
    "negative keys": ({-1: 5, 0: 3}, WAY_OUT + r"the keys \[-1, 0\]"),
    "keys twice": (Series([5, 3, 1], [0, 1, 1]), WAY_OUT + r"the keys \[.*0.*1.*1.*\]"),
    "missing in a Counter": (collections.Counter([0, 0, 2]), WAY_OUT + r"the keys \[0, 2\]"),
    "empty": ({}, r"at least two classes.*Received: class_counts=\{\}"),
    "numeric strings": (["5", "3"], r"numbers, not text.*class_counts=\['5', '3'\]"),
    "array of strings": (np.array(["5", "3"]), "numbers, not text"),
    "strings by key": ({0: "5", 1: "3"}, "numbers, not text"),
    "bytes": ([b"5", 3], r"must hold numbers.*class_counts\[0\]=b'5' \(of type bytes\)"),
    "booleans": ([5, True], r"must hold numbers.*class_counts\[1\]=True \(of type bool\)"),
    "array of booleans": (np.array([True, True]), r"class_counts\[0\]=True \(of type bool\)"),
    "a NumPy boolean": ([5, np.True_], r"class_counts\[1\]=.*True.* \(of type bool"),
    "None": ([5, None], r"must hold numbers.*class_counts\[1\]=None"),
    "complex": ([5, 1j], r"must hold numbers.*class_counts\[1\]=1j"),
    "more than there is": ([10**400, 3], r"below 2\*\*63.*class_counts\[0\]=2\*\*1328 or beyond"),
    "longer than Python writes": ([10**5000, 3], r"below 2\*\*63.*=2\*\*16609 or beyond"),
    "far below zero": ([-(10**400), 3], r"must be positive.*=-2\*\*1328 or beyond"),
    "2**63": ([2**63, 3], r"below 2\*\*63.*Received: class_counts\[0\]=9\.22337e\+18"),
    "infinite": ([np.inf, 3], r"below 2\*\*63.*Received: class_counts\[0\]=inf"),
    "NaN": ([3, np.nan], r"must be positive.*Received: class_counts\[1\]=nan"),
    "zero": ([3, 0], r"must be positive.*Received: class_counts\[1\]=0"),
    "one class": ([3], r"at least two classes.*Received: class_counts=\[3\]"),
    "a number": (3, r"flat sequence.*Received: class_counts=3 \(of type int\)"),
    "text": ("53", r"flat sequence.*\(of type str\)"),
    "a set": ({5, 3}, r"flat sequence.*\(of type set\)"),
    "a generator": ((n for n in (5, 3)), r"flat sequence.*\(of type generator\)"),
    "two axes": ([[5, 3, 1]], r"flat sequence.*`multi_label=True`.*class_counts=\[\[5, 3, 1\]\]"),
    "a table": (Series([[5, 3]], [0]), r"flat sequence.*\(of type Series\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_counts_that_are_not_clear(case):
    counts, message = BAD[case]
    with pytest.raises(ValueError, match=f"(?s)`class_counts` .*{message}"):
        checks.class_counts(counts)


def test_zeros_where_they_are_allowed():
    assert checks.class_counts({1: 0, 0: 3}, allow_zero=True) == (3, 0)
    with pytest.raises(ValueError, match=r"finite and not negative.*Received: weights\[0\]=-1"):
        checks.class_counts([-1, 2], "weights", allow_zero=True)


# --- Several labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [
        [[90, 10], [55, 45], [100, 1]],
        np.array([[90, 10], [55, 45], [100, 1]]),
        {2: (100, 1), 0: (90, 10), 1: np.array([55, 45])},
        [(90, 10), np.array([55, 45]), keras.ops.convert_to_tensor([100, 1])],
        keras.ops.convert_to_tensor([[90, 10], [55, 45], [100, 1]]),
    ],
)
def test_two_counts_of_each_label(counts):
    pairs = checks.class_counts(counts, multi_label=True)
    assert pairs == ((90, 10), (55, 45), (100, 1))
    assert json.loads(json.dumps(pairs)) == [[90, 10], [55, 45], [100, 1]]
    assert checks.class_counts(pairs, multi_label=True) == pairs


def test_counted_labels_of_several():
    y = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])
    counts = keras_lpl.data.class_counts(y, multi_label=True)
    assert checks.class_counts(counts, multi_label=True) == ((2, 2), (3, 1))
    assert checks.class_counts(counts[:1], multi_label=True) == ((2, 2),)  # a single label


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5, 3], r"two counts for each label.*\(L, 2\).*multi_label=True.*Received: class_counts="),
        ([[5, 3, 1]], r"two counts for each label"),
        ([[5, 3], [1]], r"two counts for each label"),
        ([], r"two counts for each label"),
        (["53"], r"two counts for each label"),
        ([[5, 0]], r"must be positive.*Received: class_counts\[0\]\[1\]=0"),
        ([[5, 3], ["5", 3]], r"must hold numbers.*class_counts\[1\]\[0\]='5'"),
        ({1: (5, 3)}, WAY_OUT + r"the keys \[1\]"),
    ],
)
def test_bad_counts_of_several(counts, message):
    with pytest.raises(ValueError, match=message):
        checks.class_counts(counts, multi_label=True)
    if "positive" in message:
        assert checks.class_counts(counts, allow_zero=True, multi_label=True) == ((5, 0),)


def test_class_weights_in_the_place_of_counts_are_told_about(recwarn):
    weights = {0: 0.37, 1: 0.9, 2: 11.0}
    with pytest.warns(UserWarning, match=r"neither counts nor shares.*class weights.*0\.37"):
        checks.class_counts(weights)
    recwarn.clear()
    for fine in ([0.6, 0.3, 0.1], [50, 2.5, 1], [0, 3, 1], [1e-9, 1.0]):
        checks.class_counts(fine, allow_zero=True)
    assert not recwarn.list
