import keras
import numpy as np
import pytest

from keras_lpl.data import class_counts

LABELS = np.array([0, 2, 0, 1, 0, 2, 4])
COUNTS = [3, 1, 2, 0, 1]
ONE_HOT = np.eye(5, dtype="float32")[LABELS]
FEATURES = np.arange(14, dtype="float32").reshape(7, 2)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size=3, weighted=False):
        super().__init__()
        self.x, self.y, self.batch_size, self.weighted = x, y, batch_size, weighted

    def __len__(self):
        return -(-len(self.y) // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        batch = self.x[part], self.y[part]
        return (*batch, np.zeros(len(batch[1]))) if self.weighted else batch


class InfiniteBatches(Batches):
    @property
    def num_batches(self):
        return None


# --- Arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.tolist(),
        tuple(LABELS.tolist()),
        LABELS.astype("uint8"),
        LABELS.astype("float32"),
        LABELS[:, None],
        ONE_HOT,
        ONE_HOT.tolist(),
        ONE_HOT.astype("int64"),
        ONE_HOT.astype("bool"),
        0.9 * ONE_HOT + 0.1 / 5,
        (0.9 * ONE_HOT + 0.1 / 5).astype("float16"),
    ],
    ids=[
        "int64", "list", "tuple", "uint8", "float", "column", "one-hot", "one-hot list",
        "one-hot int", "one-hot bool", "soft", "soft float16",
    ],
)  # fmt: skip
def test_labels_in_every_form(labels):
    counts = class_counts(labels)
    assert isinstance(counts, np.ndarray)
    assert counts.dtype == "int64"
    assert counts.tolist() == COUNTS


def test_labels_as_a_tensor_of_the_backend():
    assert class_counts(keras.ops.convert_to_tensor(LABELS)).tolist() == COUNTS
    assert class_counts(keras.ops.convert_to_tensor(ONE_HOT)).tolist() == COUNTS


def test_labels_as_a_torch_tensor_that_needs_gradients():
    torch = pytest.importorskip("torch")
    assert class_counts(torch.tensor(ONE_HOT, requires_grad=True)).tolist() == COUNTS


def test_classes_that_never_occur_have_zero():
    assert class_counts(LABELS, num_classes=7).tolist() == [*COUNTS, 0, 0]
    assert class_counts(range(3), num_classes=4).tolist() == [1, 1, 1, 0]


def test_soft_labels_count_for_their_largest_share():
    mixed = [[0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.5, 0.5, 0.0]]
    assert class_counts(mixed).tolist() == [2, 1, 0]


# --- Data sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], ONE_HOT, ONE_HOT.astype("int32")])
@pytest.mark.parametrize("batch", [None, 1, 3, "static"])
@pytest.mark.parametrize("weighted", [False, True])
def test_tf_dataset(labels, batch, weighted):
    tf = pytest.importorskip("tensorflow")
    parts = (FEATURES, labels, np.zeros(7)) if weighted else (FEATURES, labels)
    dataset = tf.data.Dataset.from_tensor_slices(parts)
    if batch == "static":
        dataset = dataset.batch(7, drop_remainder=True)
    elif batch:
        dataset = dataset.batch(batch)
    assert class_counts(dataset).tolist() == COUNTS
    assert class_counts(dataset, num_classes=5).tolist() == COUNTS


def test_unbatched_one_hot_beside_features_of_the_same_length():
    tf = pytest.importorskip("tensorflow")
    features = np.zeros((7, 5), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((features, ONE_HOT))
    assert class_counts(dataset).tolist() == COUNTS


def test_batches_of_float_labels_that_look_one_hot():
    tf = pytest.importorskip("tensorflow")
    labels = np.array([0, 0, 1, 0, 1, 0], "float32")
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros((6, 2)), labels)).batch(3)
    assert class_counts(dataset).tolist() == [4, 2]


def test_tf_dataset_with_nested_inputs():
    tf = pytest.importorskip("tensorflow")
    inputs = {"a": FEATURES, "b": (FEATURES, FEATURES)}
    dataset = tf.data.Dataset.from_tensor_slices((inputs, LABELS))
    assert class_counts(dataset).tolist() == COUNTS
    assert class_counts(dataset.batch(2)).tolist() == COUNTS


def test_infinite_tf_dataset():
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((FEATURES, LABELS)).repeat()
    with pytest.raises(ValueError, match=r"infinite.*\.repeat\(\).*take\(n\).*Received: source="):
        class_counts(dataset)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], ONE_HOT])
@pytest.mark.parametrize("weighted", [False, True])
def test_py_dataset(labels, weighted):
    assert class_counts(Batches(FEATURES, labels, weighted=weighted)).tolist() == COUNTS


def test_infinite_py_dataset():
    with pytest.raises(ValueError, match=r"infinite PyDataset.*Received: source="):
        class_counts(InfiniteBatches(FEATURES, LABELS))


@pytest.mark.parametrize("labels", [LABELS, ONE_HOT])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_torch_data_loader(labels, batch_size):
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.tensor(FEATURES), torch.tensor(labels))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size)
    assert class_counts(loader).tolist() == COUNTS
    assert class_counts(dataset).tolist() == COUNTS


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], ONE_HOT])
def test_lists_and_other_iterables_of_batches(labels):
    batches = [(FEATURES[:4], labels[:4]), (FEATURES[4:], labels[4:])]

    class Again:
        def __iter__(self):
            return iter(batches)

    assert class_counts(batches).tolist() == COUNTS
    assert class_counts([(x, y.tolist()) for x, y in batches]).tolist() == COUNTS
    assert class_counts(Again()).tolist() == COUNTS


def test_later_batches_may_bring_new_classes():
    batches = [(FEATURES[:2], np.array([0, 1])), (FEATURES[:2], np.array([5, 1]))]
    assert class_counts(batches).tolist() == [1, 2, 0, 0, 0, 1]


def test_numpy_and_data_set_agree(rng):
    labels = rng.integers(0, 20, 500)
    dataset = Batches(np.zeros((500, 1)), labels, batch_size=32)
    np.testing.assert_array_equal(class_counts(dataset), np.bincount(labels))


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1.5], None, r"must be integers .*Received: labels\[1\]=1\.5"),
        ([0, np.nan], None, r"must be integers .*Received: labels\[1\]=nan"),
        ([0, 3, -1], None, r"must not be negative.*Received: labels\[2\]=-1"),
        ([0, 3], 3, r"below the number of classes, 3: .*Received: labels\[1\]=3"),
        (["cat", "dog"], None, r"class names into numbers.*Received: an array of dtype"),
        (
            np.int64(3),
            None,
            r"shape \(N,\) or more.*Received: a single number, 3",
        ),
        (["0", "1"], None, r"class names into numbers.*Received: an array of dtype <U1"),
        (
            np.array([0, "a"], object),
            None,
            r"class names into numbers.*Received: an array of dtype",
        ),
        (np.array([0, None], object), None, r"class names into numbers.*dtype object"),
        ([0, 10**9], None, r"without large gaps.*np\.unique.*Received: labels\[1\]=1000000000"),
        (np.array([1, 2**63 + 5], "uint64"), None, r"labels\[1\]=9223372036854775813"),
        (np.array([1, 2**63 + 5], "uint64"), 5, r"number of classes, 5.*=9223372036854775813"),
        ([[0.5, np.nan]], None, r"sum to 1.*Received: row 0"),
        ([[1.5, -0.5]], None, r"shares >= 0.*Received: row 0"),
        (np.eye(3), 4, r"one column per class.*`one_hot=False`.*shape \(3, 3\), num_classes=4"),
        ([], None, r"no labels to count.*Received: source=\[\]"),
        (np.zeros((0,), "int64"), 3, r"no labels to count"),
        ([0], 0, r"`num_classes` must be an integer of at least 1.*Received: num_classes=0"),
        ([0], 2.0, r"`num_classes` must be an integer.*Received: num_classes=2\.0"),
    ],
)
def test_bad_labels(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        class_counts(labels, num_classes)


def test_bad_label_inside_a_data_set():
    with pytest.raises(ValueError, match=r"`y` must not be negative.*Received: y\[0\]=-1"):
        class_counts([(FEATURES[:2], np.array([-1, 0]))])


@pytest.mark.parametrize("source", [((FEATURES, LABELS) for _ in range(1)), 3, "labels"])
def test_sources_that_cannot_be_read_again(source):
    with pytest.raises(TypeError, match=r"more than once.*Received: source="):
        class_counts(source)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"image": FEATURES, "label": LABELS}, r"must be \(x, y\).*dict with keys \['image', 'l"),
        (LABELS, r"must be \(x, y\).*Received: array"),
        (
            (FEATURES, {"a": LABELS, "b": LABELS}),
            r"`y` holds one array.*`output`, a key of \['a', 'b'\].*Received: output=None",
        ),
        ((FEATURES, [LABELS, LABELS]), r"`output`, an index of \[0, 1\].*Received: output=None"),
    ],
)
def test_elements_that_are_not_pairs(element, message):
    class Source:
        def __iter__(self):
            return iter([element])

    with pytest.raises(ValueError, match=message):
        class_counts(Source())
