"""`data.load` of digits and files; folders and CIFAR have tests of their own."""

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_lpl.data import class_counts, load, long_tail_counts


def save_npz(path, counts=(8, 8, 8), **changes):
    labels = np.random.RandomState(1).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(labels), 4, 4, 3), "uint8")
    images[:, 0, 0, 0] = np.arange(len(labels))
    arrays = {
        "x_train": images,
        "y_train": labels.astype("uint8"),
        "x_test": images[:6],
        "y_test": np.arange(6, dtype="uint8")[:, None] % len(counts),
        "class_names": np.array(["a", "b", "c"]),
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


# --- Digits ---------------------------------------------------------------------------------


def digits(*args, **kwargs):
    return load("digits", *args, **kwargs)


def test_digits():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.shape == (1397, 8, 8, 1)
    assert x_test.shape == (400, 8, 8, 1)
    assert x_train.dtype == x_test.dtype == "float32"
    assert x_train.min() == 0
    assert x_train.max() == 1
    assert y_train.dtype == y_test.dtype == "int64"
    assert y_train.shape == (1397,)
    assert class_counts(y_test).tolist() == [40] * 10


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    (x_train, y_train), (x_test, y_test) = digits(imbalance_factor=50, seed=3)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        found = [known[(16 * image.astype("float64")).tobytes()] for image in x]
        assert found == y.tolist()


def test_long_tailed_digits():
    (x_train, y_train), (_, y_test) = digits(imbalance_factor=50)
    assert class_counts(y_train).tolist() == [134, 86, 56, 36, 23, 15, 9, 6, 4, 2]
    assert len(x_train) == len(y_train) == 371
    assert class_counts(y_test).tolist() == [40] * 10
    (_, balanced), _ = digits(imbalance_factor=1)
    assert class_counts(balanced).tolist() == [134] * 10


def test_digits_seeds_change_the_training_part_only():
    runs = [digits(50, seed=seed) for seed in (0, 0, 1)]
    (first, _), (test, _) = runs[0]
    np.testing.assert_array_equal(runs[1][0][0], first)
    assert not np.array_equal(runs[2][0][0], first)
    np.testing.assert_array_equal(runs[2][1][0], test)


def test_digits_train_and_test_are_apart():
    (x_train, _), (x_test, _) = digits()
    train = {image.tobytes() for image in x_train}
    assert not any(image.tobytes() in train for image in x_test)


# --- .npz -----------------------------------------------------------------------------------


def test_npz(tmp_path):
    arrays = save_npz(tmp_path / "set.npz")
    for name in (tmp_path / "set.npz", str(tmp_path / "set.npz")):
        (x_train, y_train), (x_test, y_test) = load(name)
        np.testing.assert_array_equal(x_train, arrays["x_train"])
        np.testing.assert_array_equal(y_train, arrays["y_train"])
        np.testing.assert_array_equal(x_test, arrays["x_test"])
        assert x_train.dtype == "uint8"
        assert y_train.dtype == y_test.dtype == "int64"
        assert y_test.tolist() == [0, 1, 2, 0, 1, 2]


def test_npz_relative_to_data_dir(tmp_path):
    save_npz(tmp_path / "set.npz")
    assert len(load("set.npz", data_dir=tmp_path)[0][1]) == 24


def test_npz_long_tailed(tmp_path):
    arrays = save_npz(tmp_path / "set.npz")
    (x_train, y_train), (_, y_test) = load(tmp_path / "set.npz", 4, seed=1)
    assert class_counts(y_train).tolist() == [8, 4, 2]
    assert len(y_test) == 6
    at = x_train[:, 0, 0, 0]
    np.testing.assert_array_equal(arrays["y_train"][at], y_train)


def test_no_seed_takes_the_first_of_each_class(tmp_path):
    arrays = save_npz(tmp_path / "set.npz")
    (x_train, y_train), _ = load(tmp_path / "set.npz", 4, seed=None)
    for label, count in enumerate([8, 4, 2]):
        first = np.flatnonzero(arrays["y_train"] == label)[:count]
        np.testing.assert_array_equal(x_train[y_train == label][:, 0, 0, 0], first)


def test_a_long_tailed_source_gives_the_splits_of_the_full_set(tmp_path):
    pool = long_tail_counts(3, 200, 10)
    save_npz(tmp_path / "pool.npz", pool)
    for factor in (10, 20, 100):
        (_, y_train), _ = load(tmp_path / "pool.npz", factor, seed=None)
        np.testing.assert_array_equal(class_counts(y_train), long_tail_counts(3, 200, factor))


@pytest.mark.parametrize("counts", [(200, 63, 20), (50, 9, 49), (30, 200, 4), (90, 80, 89)])
def test_a_request_that_is_too_large_says_what_is_possible(tmp_path, counts):
    path = tmp_path / "set.npz"
    save_npz(path, counts)
    pattern = (
        r"Class \d has too few training images.*`max_count` of at most (\d+), or `imbalance_factor`"
        r" of at least ([\d.]+), .*Received: imbalance_factor=1\.02, max_count=\d+"
    )
    with pytest.raises(ValueError, match=pattern) as error:
        load(path, 1.02)
    max_count, factor = re.search(pattern, str(error.value)).groups()
    assert class_counts(load(path, float(factor))[0][1])[0] == counts[0]
    assert class_counts(load(path, 1.02, max_count=int(max_count))[0][1])[0] == int(max_count)
    with pytest.raises(ValueError, match="too few"):
        load(path, float(factor) - 0.02)
    with pytest.raises(ValueError, match="too few"):
        load(path, 1.02, max_count=int(max_count) + 1)


def test_max_count_above_what_class_0_has(tmp_path):
    save_npz(tmp_path / "set.npz")
    with pytest.raises(ValueError, match=r"Class 0 .*`max_count` of at most 8, or counts of your"):
        load(tmp_path / "set.npz", 2, max_count=9)


def test_a_class_without_training_images(tmp_path):
    save_npz(tmp_path / "set.npz", (9, 0, 9))
    assert class_counts(load(tmp_path / "set.npz")[0][1]).tolist() == [9, 0, 9]
    with pytest.raises(ValueError, match=r"Class 1 .*Ask for counts of your own.*there are 0"):
        load(tmp_path / "set.npz", 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"must hold x_train, y_train, x_test, y_test; y_test missing.*Received"),
        ({"y_train": np.zeros(3, "int64")}, r"same length.*Received: 24 and 3"),
        ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, "int64")}, r"same length, at least 1"),
        ({"y_test": np.full(6, -1)}, r"`y_test` must not be negative"),
        ({"y_test": np.full(6, 0.5)}, r"`y_test` must be integers"),
    ],
)
def test_bad_npz(tmp_path, changes, message):
    save_npz(tmp_path / "set.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "set.npz")


@pytest.mark.parametrize("labels", [np.arange(24) % 3 == 0, (np.arange(24) % 3).astype("uint64")])
def test_labels_of_other_types(tmp_path, labels):
    save_npz(tmp_path / "set.npz", y_train=labels, y_test=labels[:6])
    (_, y_train), _ = load(tmp_path / "set.npz")
    assert y_train.dtype == "int64"
    np.testing.assert_array_equal(y_train, labels.astype(int))


@pytest.mark.parametrize("labels", [np.array(["a", "b"] * 12), np.array(["a", "b"] * 12, object)])
def test_labels_of_text(tmp_path, labels):
    save_npz(tmp_path / "set.npz", y_train=labels)
    message = r"class names into numbers|An array of numbers cannot be read.*Object arrays"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "set.npz")


def test_a_file_that_would_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    size = 300 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", b"")
        with archive.open("x_train.npy", "w") as file:
            for _ in range(300):
                file.write(bytes(2**20))
    own_size = path.stat().st_size
    assert own_size < 2**19
    message = rf"may unpack to {2**28} bytes.*`max_bytes={size}`.*of {own_size} bytes, which unp"
    with pytest.raises(ValueError, match=message):
        load(path)
    # Allowed, it is read, and found not to be an array.
    with pytest.raises(ValueError, match=r"cannot be read.*bomb\.npz"):
        load(path, max_bytes=size)


def test_the_limit_of_what_a_file_unpacks_to(tmp_path):
    path = tmp_path / "set.npz"
    arrays = save_npz(path)
    with zipfile.ZipFile(path) as archive:
        size = sum(
            archive.getinfo(f"{key}.npy").file_size
            for key in ("x_train", "y_train", "x_test", "y_test")
        )
    assert size > sum(arrays[key].nbytes for key in ("x_train", "y_train", "x_test", "y_test"))
    load(path, max_bytes=size)
    with pytest.raises(ValueError, match=rf"may unpack to {size - 1} bytes"):
        load(path, max_bytes=size - 1)
    with pytest.raises(ValueError, match=r"`max_bytes` must be an integer of at least 1"):
        load(path, max_bytes=0)


def test_images_that_shrink_well_are_no_bomb(tmp_path):
    # A hundredth: more than any image shrinks to, and refused only above 256 MiB.
    images = np.zeros((24, 32, 32, 3), "uint8")
    labels = np.arange(24) % 3
    np.savez_compressed(
        tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels
    )
    np.testing.assert_array_equal(load(tmp_path / "set.npz")[0][0], images)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and nothing more"])
def test_files_that_are_no_npz(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"no \.npz file.*set\.npz"):
        load(tmp_path / "set.npz")


def test_a_cut_npz(tmp_path):
    path = tmp_path / "set.npz"
    save_npz(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"no \.npz file.*or a damaged one"):
        load(path)


# --- Arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar1000", "nowhere/at/all", Path("nowhere"), "nowhere.npz"])
@pytest.mark.parametrize("data_dir", [None, "some/folder"])
def test_missing_files_and_folders(name, data_dir):
    place = re.escape(os.path.join(data_dir or "", name))
    with pytest.raises(ValueError, match=rf"no file or folder '/.*{place}'.*none of \"digits\""):
        load(name, data_dir=data_dir)


def test_another_kind_of_file(tmp_path):
    (tmp_path / "digits.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"path of an \.npz file.*digits\.npy.*another kind of fi"):
        load(tmp_path / "digits.npy")


@pytest.mark.parametrize("name", [None, 3, np.zeros(2)])
def test_name_of_another_type(name):
    with pytest.raises(ValueError, match=r"`name` must be a data set's name.*Received: name="):
        load(name)


def test_bad_factors(tmp_path):
    save_npz(tmp_path / "set.npz")
    with pytest.raises(ValueError, match=r"`imbalance_factor`.*\(100, not 0\.01\)"):
        load(tmp_path / "set.npz", 0.01)
    with pytest.raises(ValueError, match=r"must not exceed `max_count`.*max_count=8"):
        load(tmp_path / "set.npz", 9)
    with pytest.raises(ValueError, match=r"`max_count` needs `imbalance_factor`"):
        load(tmp_path / "set.npz", max_count=5)
