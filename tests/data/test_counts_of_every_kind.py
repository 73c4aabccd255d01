"""`class_counts` of masks, tokens, several labels, several outputs, and of what is not clear."""

import importlib.util

import keras
import numpy as np
import pytest

from keras_lpl.core.checks import SOFT_LABEL_TOLERANCE
from keras_lpl.data import class_counts
from tests.data.test_counts import Batches

X = np.arange(24, dtype="float32").reshape(6, 4)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")


def naive_counts(labels, classes, ignored=None):
    """One label after the other."""
    counts = [0] * classes
    for label in np.asarray(labels).reshape(-1).tolist():
        if label != ignored:
            counts[int(label)] += 1
    return counts


def naive_pairs(labels, ignored=None):
    """Negatives and positives, one label after the other."""
    rows = np.asarray(labels, "float64").reshape(-1, np.shape(labels)[-1]).tolist()
    pairs = [[0, 0] for _ in rows[0]]
    for row in rows:
        for pair, value in zip(pairs, row, strict=True):
            if value != ignored:
                pair[1 if value > 0.5 else 0] += 1
    return pairs


def dense(shape, classes, seed=0):
    labels = np.random.RandomState(seed).randint(0, classes, shape)
    labels.flat[0] = classes - 1  # so that the last class occurs
    return labels


def every_source(x, y):
    """The same labels as an array, a pair, a list of batches, single samples, and data sets."""
    yield "array", y
    yield "list", y.tolist()
    yield "tensor", keras.ops.convert_to_tensor(y)
    yield "pair", (x, y)
    yield "weighted pair", (x, y, np.zeros(len(y)))
    yield "batches", [(x[:4], y[:4]), (x[4:], y[4:])]
    yield "tuple of batches", ((x[:4], y[:4]), (x[4:], y[4:]))
    yield "samples", [(x[i], y[i]) for i in range(len(y))]
    yield "PyDataset", Batches(x, y, batch_size=4)
    if importlib.util.find_spec("torch") is None:
        return
    torch = importlib.import_module("torch")
    tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    for batch_size in (None, 1, 4):
        yield f"loader {batch_size}", torch.utils.data.DataLoader(tensors, batch_size=batch_size)


# --- Dense labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 3, 4), (6, 3, 4, 1), (6, 2, 3, 4)])
@pytest.mark.parametrize("classes", [3, 4, 5])  # which are lengths of axes, too
def test_dense_labels_in_every_source(shape, classes):
    y = dense(shape, classes)
    expected = naive_counts(y, classes)
    for name, source in every_source(X, y):
        assert class_counts(source).tolist() == expected, name
        assert class_counts(source, num_classes=classes + 1).tolist() == [*expected, 0], name


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 1)])
@pytest.mark.parametrize("batch", [None, 1, 4, 6])
def test_dense_labels_in_tf_data(shape, batch):
    tf = pytest.importorskip("tensorflow")
    y = dense(shape, 4)
    dataset = tf.data.Dataset.from_tensor_slices((X, y))
    dataset = dataset.batch(batch, drop_remainder=batch == 6) if batch else dataset
    assert class_counts(dataset).tolist() == naive_counts(y, 4)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_dense_labels_of_every_type(dtype):
    y = dense((6, 5, 7), 4)
    assert class_counts(y.astype(dtype)).tolist() == naive_counts(y, 4)
    y[2:] = 127
    assert class_counts(y.astype(dtype), ignore_class=127).tolist() == naive_counts(y, 4, 127)
    assert class_counts(y.astype(dtype), 300).tolist() == naive_counts(y, 300)


def test_256_classes_of_a_byte():
    y = np.arange(256, dtype="uint8").reshape(4, 64)
    assert class_counts(y).tolist() == [1] * 256
    assert class_counts(y, ignore_class=255).tolist() == [1] * 255
    assert class_counts(y, ignore_class=255, num_classes=256).tolist() == [1] * 255 + [0]


@pytest.mark.parametrize("ignored", [-1, 0, 2, 255])
def test_an_ignored_class(ignored):
    y = dense((6, 5), 4)
    y[:, 1:3] = ignored
    expected = naive_counts(y, 4, ignored)
    assert sum(expected) < 30
    for name, source in every_source(X, y):
        assert class_counts(source, ignore_class=ignored).tolist() == expected, name
        assert class_counts(source, 4, ignore_class=ignored).tolist() == expected, name


def test_large_arrays_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr("keras_lpl.data.counts._CHUNK", 16)
    y = dense((40, 5, 3), 4)
    assert class_counts(y).tolist() == naive_counts(y, 4)
    one_hot = np.eye(4)[y]
    assert class_counts(one_hot).tolist() == naive_counts(y, 4)
    assert class_counts(one_hot, multi_label=True).tolist() == naive_pairs(one_hot)
    y[33, 2, 1] = -1
    with pytest.raises(ValueError, match=r"Received: labels\[33, 2, 1\]=-1"):
        class_counts(y)
    one_hot[33, 2, 1] = 0.3
    with pytest.raises(ValueError, match=r"Received: row 33, 2, 1 = \[0\.3"):
        class_counts(one_hot)
    one_hot[33, 2, 1, 0] = 7
    with pytest.raises(ValueError, match=r"Received: labels\[33, 2, 1, 0\]=7"):
        class_counts(one_hot, multi_label=True)


def test_sequences_of_different_lengths():
    sequences = [[0, 1, 2], [1], [2, 2, 0, 0, 0]]
    assert class_counts(sequences).tolist() == [4, 2, 3]
    assert class_counts([np.array(part) for part in sequences]).tolist() == [4, 2, 3]
    assert class_counts([[0, 1], [1, 1, 0]]).tolist() == [2, 3]  # neither one-hot nor multi-hot
    batches = [(X[:1], np.array([part])) for part in sequences]
    assert class_counts(batches).tolist() == [4, 2, 3]


def test_ragged_tensors():
    tf = pytest.importorskip("tensorflow")
    sequences = tf.ragged.constant([[0, 1, 2], [1], [2, 2, 0, 0, 0]])
    assert class_counts(sequences).tolist() == [4, 2, 3]
    dataset = tf.data.Dataset.from_tensor_slices((X[:3], sequences))
    assert class_counts(dataset).tolist() == [4, 2, 3]
    assert class_counts(dataset.batch(2)).tolist() == [4, 2, 3]
    marked = tf.ragged.constant([[0, 1], [0], [0, 0, 0]])  # not one-hot, though they sum to 1
    dataset = tf.data.Dataset.from_tensor_slices((X[:3], marked)).batch(3)
    assert class_counts(dataset).tolist() == [5, 1]


# --- One-hot and soft labels ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 3, 4)])
@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "uint8", "bool", "soft"])
def test_one_hot_and_soft_labels_of_every_rank(shape, kind):
    ids = dense(shape, 5)
    y = np.eye(5)[ids]
    y = (0.8 * y + 0.04).astype("float16") if kind == "soft" else y.astype(kind)
    for name, source in every_source(X, y):
        assert class_counts(source).tolist() == naive_counts(ids, 5), name
        assert class_counts(source, 5, one_hot=True).tolist() == naive_counts(ids, 5), name


def test_the_axis_of_a_sequence_as_long_as_there_are_classes():
    # Token labels and one-hot labels of the same shape: the values tell.
    tokens = np.array([[0, 1, 2, 0], [3, 3, 1, 0]])
    assert class_counts(tokens, num_classes=4).tolist() == [3, 2, 1, 2]
    assert class_counts(tokens.astype("float32"), num_classes=4).tolist() == [3, 2, 1, 2]
    assert class_counts(np.eye(4)[[0, 3, 3, 1]], num_classes=4).tolist() == [1, 1, 0, 2]


def test_nothing_is_decided_by_a_part_of_the_labels():
    # Read alone, the first masks are one-hot, the second of two classes, and the last clear.
    masks = [np.eye(3, dtype=int)[None], np.ones((1, 3, 3), int), np.full((1, 3, 3), 2)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        batches = [(X[:1], masks[i]) for i in order]
        assert class_counts(batches).tolist() == [6, 12, 9]
    with pytest.raises(ValueError, match=r"hold only 0 and 1, and are not one-hot"):
        class_counts([(X[:1], mask) for mask in masks[:2]])
    assert class_counts([(X[:1], masks[0])]).tolist() == [1, 1, 1]


def test_one_hot_is_said():
    pointers = np.eye(5, dtype=int)[[0, 1, 2, 2]]  # in each sequence, one token is marked
    assert class_counts(pointers).tolist() == [1, 1, 2, 0, 0]
    assert class_counts(pointers, one_hot=True).tolist() == [1, 1, 2, 0, 0]
    assert class_counts(pointers, one_hot=False).tolist() == [16, 4]
    with pytest.raises(ValueError, match=r"`one_hot=False`.*shape \(4, 5\), num_classes=2"):
        class_counts(pointers, num_classes=2)
    with pytest.raises(ValueError, match=r"one column per class, of shape \(\.\.\., C\)"):
        class_counts([0, 1], one_hot=True)
    with pytest.raises(ValueError, match=r"one column per class, of shape \(\.\.\., C\)"):
        class_counts([[0], [1]], one_hot=True)
    with pytest.raises(ValueError, match=r"must be integers.*labels\[0, 0\]=0\.5"):
        class_counts([[0.5, 0.5]], one_hot=False)


def test_single_samples_beside_as_many_inputs():
    x = np.zeros((6, 5), "float32")
    y = np.eye(5)[dense((6,), 5)]
    expected = y.sum(axis=0).tolist()
    samples = [(x[i], y[i]) for i in range(6)]
    assert class_counts(samples).tolist() == expected  # floats
    samples = [(x[i], y[i].astype(int)) for i in range(6)]
    with pytest.raises(
        ValueError, match=r"batches of class numbers \(`one_hot=False`\), or the on"
    ):
        class_counts(samples)
    assert class_counts(samples, one_hot=True).tolist() == expected
    assert class_counts(samples, one_hot=False).tolist() == [24, 6]


def test_ignored_one_hot_labels():
    y = np.eye(4)[dense((6, 5), 4)]
    expected = y.sum(axis=(0, 1)).tolist()
    assert class_counts(y, ignore_class=255).tolist() == expected
    with pytest.raises(ValueError, match=r"`one_hot=True`.*`one_hot=False`.*Received: .*class=0"):
        class_counts(y, ignore_class=0)
    assert class_counts(y, ignore_class=0, one_hot=True).tolist() == [0, *expected[1:]]
    assert class_counts(y, ignore_class=0, one_hot=False).tolist() == [0, 30]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("off", "passes"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False)]
)
def test_soft_rows_may_be_off_by_one_tolerance(dtype, off, passes):
    row = np.array([[0.7, 0.3 + off * SOFT_LABEL_TOLERANCE]], dtype)
    if passes:
        assert class_counts(row).tolist() == [1, 0]
    else:
        with pytest.raises(ValueError, match="sum to 1"):
            class_counts(row)


def test_bfloat16():
    one_hot = keras.ops.cast(np.eye(3)[[0, 2, 2]], "bfloat16")
    assert class_counts(one_hot).tolist() == [1, 0, 2]
    assert class_counts(keras.ops.cast([0, 2, 2], "bfloat16")).tolist() == [1, 0, 2]


# --- Labels of two classes ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3, 4, 1)])
def test_one_logit(dtype, shape):
    y = dense(shape, 2)
    expected = naive_counts(y, 2)
    for name, source in every_source(X, y.astype(dtype)):
        assert class_counts(source).tolist() == expected, name
    zeros = np.zeros(shape, dtype)
    assert class_counts(zeros, num_classes=2).tolist() == [zeros.size, 0]
    assert class_counts(zeros.astype(bool)).tolist() == [zeros.size, 0]  # a boolean is one of two


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4)])
def test_zeros_and_ones_of_more_than_one_axis(dtype, shape):
    y = dense(shape, 2).astype(dtype)
    message = r"`num_classes=2`, or `one_hot=False`.*`multi_label=True`.*Received: shape \(\d,"
    for name, source in every_source(X, y):
        with pytest.raises(ValueError, match=message):
            class_counts(source)
        for said in ({"num_classes": 2}, {"one_hot": False}, {"ignore_class": 255}):
            assert class_counts(source, **said).tolist() == naive_counts(y, 2), (name, said)
        pairs = class_counts(source, multi_label=True).tolist()
        assert pairs == naive_pairs(y), name
    with pytest.raises(ValueError, match=message):
        class_counts(y, num_classes=shape[-1])


def test_soft_labels_of_one_logit():
    y = np.array([0.2, 0.9, 0.5, 1.0, 0.0])
    for labels in (y, y[:, None], np.tile(y, (4, 3, 1))):
        positives = labels.size * 2 // 5
        expected = [labels.size - positives, positives]  # at 1/2, the first class, as everywhere
        assert class_counts(labels, num_classes=2).tolist() == expected
        with pytest.raises(ValueError, match=r"must be integers|sum to 1"):
            class_counts(labels)
    with pytest.raises(ValueError, match=r"Received: labels\[1\]=1\.5"):
        class_counts([0.5, 1.5], num_classes=2)


# --- Several labels -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool", "soft"])
@pytest.mark.parametrize("shape", [(6, 1), (6, 5), (6, 3, 4)])
def test_several_labels(dtype, shape):
    random = np.random.RandomState(0)
    y = random.rand(*shape) if dtype == "soft" else random.randint(0, 2, shape).astype(dtype)
    for name, source in every_source(X, y):
        counts = class_counts(source, multi_label=True)
        assert counts.dtype == "int64", name
        assert counts.tolist() == naive_pairs(y), name
        assert class_counts(source, shape[-1], multi_label=True).tolist() == naive_pairs(y), name


def test_several_labels_in_tf_data():
    tf = pytest.importorskip("tensorflow")
    y = dense((6, 4), 2)
    dataset = tf.data.Dataset.from_tensor_slices((X, y))
    assert class_counts(dataset, multi_label=True).tolist() == naive_pairs(y)
    assert class_counts(dataset.batch(4), multi_label=True).tolist() == naive_pairs(y)


def test_missing_labels_of_several():
    y = dense((6, 4), 2)
    y[:, 1] = -1
    y[0] = -1
    expected = naive_pairs(y, ignored=-1)
    assert expected[1] == [0, 0]
    assert class_counts(y, multi_label=True, ignore_class=-1).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([[0, 2]], {}, r"0, 1 or a share.*`ignore_class`.*Received: labels\[0, 1\]=2"),
        ([[0, np.nan]], {}, r"Received: labels\[0, 1\]=nan"),
        ([[0.0, -0.1]], {}, r"Received: labels\[0, 1\]=-0\.1"),
        ([0, 1], {}, r"must have shape \(\.\.\., L\).*Received: shape \(2,\)"),
        ([[0, 1]], {"num_classes": 3}, r"shape \(\.\.\., L=3\).*Received: shape \(1, 2\)"),
        ([(X[:2], np.eye(2)), (X[:1], np.ones((1, 3)))], {}, r"L=2\).*Received: shape \(1, 3\)"),
        ([["a", "b"]], {}, r"class names into numbers"),
        ([], {}, "no labels to count"),
        ([[-1, -1]], {"ignore_class": -1}, r"no labels to count other than ignore_class=-1"),
        ([[0, 1]], {"one_hot": True}, r"Leave it out.*multi_label=True, one_hot=True"),
    ],
)
def test_bad_labels_of_several(labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        class_counts(labels, multi_label=True, **arguments)


# --- Several outputs ------------------------------------------------------------------------

KIND, COLOUR = dense((6,), 3), dense((6, 5), 4)
DICT, LIST = {"kind": KIND, "colour": COLOUR}, [KIND, COLOUR]


class Several(Batches):
    def __getitem__(self, index):
        part = slice(index * 4, index * 4 + 4)
        x, y = self.x[part], self.y
        is_dict = isinstance(y, dict)
        return x, {key: y[key][part] for key in y} if is_dict else [each[part] for each in y]

    def __len__(self):
        return 2


@pytest.mark.parametrize(("y", "kind", "colour"), [(DICT, "kind", "colour"), (LIST, 0, 1)])
def test_outputs(y, kind, colour):
    sources = {"pair": (X, y), "PyDataset": Several(X, y), "labels": y}
    sources["batches"] = [Several(X, y)[0], Several(X, y)[1]]
    sources["several inputs"] = ({"a": X, "b": X}, y)
    sources["list of inputs"] = ([X, X], y)
    if importlib.util.find_spec("torch") is not None:
        data = importlib.import_module("torch.utils.data")
        sources["loader"] = data.DataLoader(sources["batches"], batch_size=None)
    for name, source in sources.items():
        assert class_counts(source, output=kind).tolist() == naive_counts(KIND, 3), name
        assert class_counts(source, output=colour).tolist() == naive_counts(COLOUR, 4), name


@pytest.mark.parametrize("batch", [None, 4])
def test_outputs_of_tf_data(batch):
    tf = pytest.importorskip("tensorflow")
    for y, key in ((DICT, "kind"), (tuple(LIST), 0)):
        dataset = tf.data.Dataset.from_tensor_slices((X, y))
        dataset = dataset.batch(batch) if batch else dataset
        assert class_counts(dataset, output=key).tolist() == naive_counts(KIND, 3)


def test_a_single_output_need_not_be_named():
    expected = naive_counts(KIND, 3)
    for y in ({"kind": KIND}, [KIND]):
        assert class_counts((X, y)).tolist() == expected
        assert class_counts([(X, y)]).tolist() == expected
    assert class_counts({"kind": KIND}).tolist() == expected


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ((X, DICT), None, r"`y` holds one array.*a key of \['kind', 'colour'\].*output=None"),
        ((X, DICT), "shape", r"a key of \['kind', 'colour'\].*Received: output='shape'"),
        ((X, DICT), 0, r"a key of \['kind', 'colour'\].*Received: output=0"),
        ((X, LIST), 2, r"an index of \[0, 1\].*Received: output=2"),
        (DICT, None, r"`source` holds one array.*Received: output=None"),
        ((X, KIND), "kind", r"`y` is one array.*Leave `output` out.*Received: output='kind'"),
        (KIND, 0, r"`source` is one array.*Leave `output` out"),
    ],
)
def test_bad_outputs(source, output, message):
    with pytest.raises(ValueError, match=message):
        class_counts(source, output=output)


# --- Inputs and labels together -------------------------------------------------------------


def test_inputs_and_labels():
    expected = naive_counts(KIND, 3)
    one_hot = np.eye(3)[KIND]
    for x in (X, X[:, 0], {"a": X}, [X, X], keras.ops.convert_to_tensor(X)):
        for y in (KIND, KIND[:, None], KIND.tolist(), one_hot, keras.ops.convert_to_tensor(KIND)):
            assert class_counts((x, y)).tolist() == expected
            assert class_counts((x, y, np.zeros(6))).tolist() == expected


def test_inputs_and_labels_in_a_list():
    with pytest.raises(ValueError, match=r"in a tuple, `\(x, y\)`.*shapes \(6, 4\), \(6,\)"):
        class_counts([X, KIND])


# --- Empty ----------------------------------------------------------------------------------


def test_empty_batches_count_nothing():
    empty = (X[:0], KIND[:0])
    assert class_counts([empty, (X, KIND), empty]).tolist() == naive_counts(KIND, 3)
    one_hot = np.eye(3)[KIND]
    batches = [(X[:0], one_hot[:0]), (X, one_hot)]
    assert class_counts(batches).tolist() == naive_counts(KIND, 3)


@pytest.mark.parametrize(
    "source", [[(X[:0], KIND[:0])], Batches(X[:0], KIND[:0]), (X[:0], KIND[:0])]
)
def test_data_sets_without_labels(source):
    for arguments in ({}, {"num_classes": 3}, {"multi_label": True}, {"one_hot": True}):
        with pytest.raises(ValueError, match=r"no labels to count\..*Received: sou"):
            class_counts(source, **arguments)


@pytest.mark.parametrize("value", [1.0, True, "255"])
def test_bad_ignore_class(value):
    with pytest.raises(ValueError, match=r"`ignore_class` must be an integer.*Received: ignore_cl"):
        class_counts([0, 1], ignore_class=value)


def test_objects_that_are_integers():
    assert class_counts(np.array([0, 2, 2], object)).tolist() == [1, 0, 2]
    assert class_counts(np.array([[0, 2], [2, 1]], object)).tolist() == [1, 1, 2]
