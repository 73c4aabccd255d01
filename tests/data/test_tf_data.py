import sys

import keras
import numpy as np
import pytest

from keras_lpl.data import (
    ArrayDataset,
    channel_statistics,
    class_counts,
    class_probabilities,
    pipeline,
)
from keras_lpl.data.sampling import SAMPLINGS
from tests.data.test_sampling import follows

tf = pytest.importorskip("tensorflow")

OFF = {"mean": 0, "std": 1}


def coded_images(count=12, height=6, width=5):
    """Images that say in channel 0 which they are, and in channel 1 where each pixel is."""
    images = np.zeros((count, height, width, 2), "uint8")
    images[..., 0] = np.arange(count)[:, None, None]
    images[..., 1] = 1 + np.arange(height * width).reshape(height, width)
    return images, np.arange(count) % 4


def batches(dataset):
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def epoch(dataset):
    xs, ys = zip(*batches(dataset), strict=True)
    return np.concatenate(xs), np.concatenate(ys)


# --- Batches and order ----------------------------------------------------------------------


def test_evaluation_keeps_order_and_values():
    x, y = coded_images()
    dataset = pipeline(x, y, 5, training=False, **OFF)
    parts = batches(dataset)
    assert [len(part_y) for _, part_y in parts] == [5, 5, 2]
    assert len(dataset) == 3
    out_x, out_y = epoch(dataset)
    assert out_x.dtype == "float32"
    assert out_y.dtype == y.dtype
    np.testing.assert_array_equal(out_x, x)
    np.testing.assert_array_equal(out_y, y)


def test_training_shows_every_sample_once_an_epoch_in_a_new_order():
    x, y = coded_images()
    dataset = pipeline(x, y, 5, training=True, padding=0, flip=False, **OFF)
    assert len(dataset) == 3
    orders = []
    for _ in range(3):
        out_x, out_y = epoch(dataset)
        order = out_x[:, 0, 0, 0].astype(int)
        assert sorted(order) == list(range(12))
        np.testing.assert_array_equal(out_x, x[order])
        np.testing.assert_array_equal(out_y, y[order])
        orders.append(tuple(order))
    assert len(set(orders)) == 3


def test_static_shapes():
    x, y = coded_images()
    for training in (True, False):
        spec_x, spec_y = pipeline(x, y, 5, training, **OFF).element_spec
        assert spec_x.shape.as_list() == [None, 6, 5, 2]
        assert spec_y.shape.as_list() == [None]


@pytest.mark.parametrize("training", [True, False])
def test_features_are_shuffled_but_not_changed(training):
    x = np.arange(20, dtype="float64").reshape(10, 2)
    y = np.eye(10, dtype="float32")
    out_x, out_y = epoch(pipeline(x, y, 4, training))
    order = out_y.argmax(axis=1)
    assert out_x.dtype == "float64"
    np.testing.assert_array_equal(out_x, x[order])
    assert (order.tolist() == list(range(10))) is not training


def test_features_are_normalised_on_request():
    x = np.arange(20, dtype="float32").reshape(10, 2)
    mean, std = channel_statistics(x)
    out_x, _ = epoch(pipeline(x, np.zeros(10), 4, False, mean=mean, std=std))
    np.testing.assert_allclose(out_x, (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-5, atol=1e-6)


# --- Reproducibility ------------------------------------------------------------------------


def test_one_seed_one_sequence_of_epochs():
    x, y = coded_images()
    first, again, other = (pipeline(x, y, 5, training=True, seed=seed, **OFF) for seed in (1, 1, 2))
    for _ in range(2):
        x_first, y_first = epoch(first)
        x_again, y_again = epoch(again)
        np.testing.assert_array_equal(x_first, x_again)
        np.testing.assert_array_equal(y_first, y_again)
        assert not np.array_equal(x_first, epoch(other)[0])


def test_tensorflows_global_seed_does_not_matter():
    x, y = coded_images()
    out = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        tf.random.uniform(())
        out.append(epoch(pipeline(x, y, 5, training=True, **OFF))[0])
    np.testing.assert_array_equal(*out)


def test_initial_epoch_goes_on_where_a_run_stopped():
    x, y = coded_images()
    whole = pipeline(x, y, 5, training=True, **OFF)
    rest = pipeline(x, y, 5, training=True, initial_epoch=2, **OFF)
    epochs = [epoch(whole)[0] for _ in range(4)]
    np.testing.assert_array_equal(epoch(rest)[0], epochs[2])
    np.testing.assert_array_equal(epoch(rest)[0], epochs[3])


def test_two_iterations_at_a_time_do_not_mix():
    x, y = coded_images()
    alone = pipeline(x, y, 5, training=True, **OFF)
    epochs = [epoch(alone)[0] for _ in range(2)]
    together = pipeline(x, y, 5, training=True, **OFF)
    pairs = list(zip(together, together, strict=True))
    found = [np.concatenate([pair[i][0].numpy() for pair in pairs]) for i in range(2)]
    for whole in epochs:
        assert any(np.array_equal(whole, other) for other in found)


def test_repeat_goes_through_the_same_epochs():
    x, y = coded_images()
    epochs = pipeline(x, y, 5, training=True, **OFF)
    repeated = pipeline(x, y, 5, training=True, **OFF).repeat().take(6)
    expected = np.concatenate([epoch(epochs)[0] for _ in range(2)])
    np.testing.assert_array_equal(epoch(repeated)[0], expected)


@pytest.mark.parametrize("training", [True, False])
def test_nobody_waits_for_tensorflows_tuner(training):
    x, y = coded_images(10)
    batches = pipeline(x, y, 4, training=training, mean=0.0, std=1.0)
    assert batches.options().autotune.enabled is False
    assert batches.map(lambda x, y: (x, y)).options().autotune.enabled is False


def test_the_random_stream_is_pinned():
    # Order, then crops, then flips, of one generator: a change here changes every published run.
    x, y = coded_images()
    dataset = pipeline(x, y, 5, training=True, seed=3, padding=2, initial_epoch=4, **OFF)
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    for number in (4, 5):
        random = np.random.RandomState([3, number])
        order = random.permutation(12)
        corners = random.randint(0, 5, (12, 2), dtype="int32")
        flips = random.randint(0, 2, (12, 1), dtype="int32")[:, 0]
        out_x, out_y = epoch(dataset)
        np.testing.assert_array_equal(out_y, y[order])
        for image, sample, (top, left), flip in zip(out_x, order, corners, flips, strict=True):
            crop = padded[sample, top : top + 6, left : left + 5]
            np.testing.assert_array_equal(image, crop[:, ::-1] if flip else crop)


# --- Sampling and disturbed labels ----------------------------------------------------------

LONG_TAIL = np.random.RandomState(0).permutation(np.repeat(np.arange(4), [60, 25, 10, 5]))
FEATURES = np.arange(100, dtype="float32")[:, None]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_classes_are_drawn_as_often_as_they_should(sampling):
    dataset = pipeline(FEATURES, LONG_TAIL, 32, training=True, sampling=sampling)
    assert len(dataset) == 4
    drawn = np.zeros(4)
    for _ in range(30):
        out_x, out_y = epoch(dataset)
        assert len(out_y) == 100
        np.testing.assert_array_equal(out_y, LONG_TAIL[out_x[:, 0].astype(int)])
        drawn += np.bincount(out_y, minlength=4)
    assert follows(drawn, class_probabilities([60, 25, 10, 5], sampling))
    for other in set(SAMPLINGS) - {sampling}:
        assert not follows(drawn, class_probabilities([60, 25, 10, 5], other))


@pytest.mark.shared_out
@pytest.mark.parametrize("sampling", [None, "paired", *SAMPLINGS])
@pytest.mark.parametrize("disturb_rate", [0.0, 0.3])
@pytest.mark.parametrize("form", ["flat", "column", "one-hot", "boolean one-hot", "uint8"])
def test_it_shows_what_an_array_dataset_shows(sampling, disturb_rate, form):
    labels = {
        "flat": LONG_TAIL,
        "column": LONG_TAIL[:, None],
        "one-hot": np.eye(4, dtype="float32")[LONG_TAIL],
        "boolean one-hot": np.eye(4, dtype=bool)[LONG_TAIL],
        "uint8": LONG_TAIL.astype("uint8"),
    }[form]
    options = {"sampling": sampling, "disturb_rate": disturb_rate, "initial_epoch": 1}
    dataset = pipeline(FEATURES, labels, 32, True, 7, **options)
    arrays = ArrayDataset(FEATURES, labels, 32, 7, **options)
    assert dataset.is_paired is arrays.is_paired is (sampling == "paired")
    for _ in range(2):
        for (x, y), (x_array, y_array) in zip(dataset, arrays, strict=True):
            np.testing.assert_array_equal(x, x_array)
            np.testing.assert_array_equal(y, y_array)
            assert y.numpy().dtype == labels.dtype
        arrays.on_epoch_end()


def test_disturbing_changes_labels_and_nothing_else():
    x, y = coded_images(400)
    for sampling in (None, "reversed"):
        plain, disturbed = (
            epoch(pipeline(x, y, 50, training=True, sampling=sampling, disturb_rate=rate, **OFF))
            for rate in (0.0, 0.5)
        )
        np.testing.assert_array_equal(disturbed[0], plain[0])
        kept = int((disturbed[1] == plain[1]).sum())
        assert follows([kept, 400 - kept], [1 - 0.5 * 3 / 4, 0.5 * 3 / 4])


def test_sampled_images_are_augmented():
    x, y = coded_images(40)
    dataset = pipeline(x, y, 10, training=True, sampling="class_balanced", padding=2, **OFF)
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    corners = set()
    for image, label in zip(*epoch(dataset), strict=True):
        sample = int(image[..., 0].max())
        assert label == y[sample]
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            for crop in [padded[sample, top : top + 6, left : left + 5]]
            if np.array_equal(image, crop) or np.array_equal(image, crop[:, ::-1])
        ]
        assert len(found) == 1
        corners.update(found)
    assert len(corners) > 10


def test_sampled_epochs_go_on_where_a_run_stopped():
    drawn = {"sampling": "class_balanced", "disturb_rate": 0.3}
    whole = pipeline(FEATURES, LONG_TAIL, 32, training=True, **drawn)
    epochs = [epoch(whole) for _ in range(3)]
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    rest = epoch(pipeline(FEATURES, LONG_TAIL, 32, training=True, initial_epoch=2, **drawn))
    np.testing.assert_array_equal(rest[0], epochs[2][0])
    np.testing.assert_array_equal(rest[1], epochs[2][1])


# --- With Keras -----------------------------------------------------------------------------


def test_fit_and_evaluate():
    x, y = coded_images(40, 8, 8)
    mean, std = channel_statistics(x)
    train = pipeline(x, y, 16, training=True, mean=mean, std=std)
    test = pipeline(x, y, 16, training=False, mean=mean, std=std)
    model = keras.Sequential(
        [keras.layers.Input((8, 8, 2)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    history = model.fit(train, epochs=2, validation_data=test, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    from_arrays = model.evaluate((x - mean) / std, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(model.evaluate(test, verbose=0), from_arrays, rtol=1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
def test_fit_on_drawn_samples(one_hot):
    x, y = coded_images(40, 8, 8)
    labels = np.eye(4, dtype="float32")[y] if one_hot else y
    train = pipeline(x, labels, 16, training=True, sampling="reversed", disturb_rate=0.2)
    model = keras.Sequential(
        [keras.layers.Input((8, 8, 2)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    loss = "CategoricalCrossentropy" if one_hot else "SparseCategoricalCrossentropy"
    model.compile("sgd", getattr(keras.losses, loss)(from_logits=True))
    history = model.fit(train, epochs=2, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()


def test_class_counts_of_a_pipeline():
    x, y = coded_images(10)
    assert class_counts(pipeline(x, y, 4, training=True)).tolist() == [3, 3, 2, 2]


def test_tensors_of_the_backend_are_taken():
    x, y = coded_images()
    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    assert len(epoch(pipeline(x, y, 5, training=True))[1]) == 12


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` must be an integer of at least 1.*Received: batch_siz"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0.*Received: seed=-1"),
        ({"initial_epoch": 1.5}, r"`initial_epoch`.*Received: initial_epoch=1\.5"),
        ({"seed": 2**32}, r"`seed` must be below 2\*\*32"),
        ({"padding": -1}, r"`padding`.*Received: padding=-1"),
        ({"padding_mode": "wrap"}, r"`padding_mode` must be one of.*Received: padding_mode='wrap'"),
        ({"padding": 5, "padding_mode": "reflect"}, r"smaller than the images.*6 x 5"),
        ({"mean": 0.0}, r"`mean` and `std` go together.*Received: mean=0\.0, std=None"),
        ({"mean": [0, 0, 0], "std": 1}, r"`mean` must be.* 2 channels.*Received: mean="),
        ({"mean": np.nan, "std": 1}, r"`mean` must be a finite number"),
        ({"mean": 0, "std": [1, 0]}, r"`std` must be greater than 0.*Received: std=\[1\.0, 0\.0\]"),
        ({"y": np.zeros(3)}, r"same length.*Received: shapes \(12, 6, 5, 2\) and \(3,\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, r"same length, at least 1"),
        ({"sampling": "balanced"}, r"`sampling` must be one of \[None,.*sampling='balanced'"),
        ({"disturb_rate": 10}, r"`disturb_rate` must be.*at most 1.*Received: disturb_rate=10"),
        (
            {"training": False, "sampling": "reversed"},
            r"are for training.*Leave them out.*training=False, sampling='reversed'",
        ),
        (
            {"training": False, "disturb_rate": 0.1},
            r"are for training.*Received: training=False, sampling=None, disturb_rate=0\.1",
        ),
        (
            {"y": np.full(12, 0.5), "sampling": "instance"},
            r"`y` must be integers.*Received: y\[0\]=0\.5",
        ),
        (
            {"y": np.full(12, -1), "disturb_rate": 0.1},
            r"`y` must not be negative.*Received: y\[0\]=-1",
        ),
        ({"x": np.zeros(12)}, r"`x` must be images.*Received: dtype float64, shape \(12,\)"),
        ({"x": np.array([["a"]] * 12)}, r"`x` must be images.*Received: dtype <U1"),
    ],
)
def test_bad_arguments(changes, message):
    x, y = coded_images()
    arguments = {"x": x, "y": y, "batch_size": 4, "training": True, **changes}
    with pytest.raises(ValueError, match=message):
        pipeline(**arguments)


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), [["a", "b"]]])
def test_bad_statistics_arguments(x):
    with pytest.raises(ValueError, match=r"`x` must be training inputs.*Received: dtype .*, shape"):
        channel_statistics(x)


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"needs tensorflow: pip install tensorflow\."):
        pipeline(np.zeros((4, 2)), np.zeros(4), 2, training=True)
