import inspect
import os
import re
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import keras
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


# --- Image folders --------------------------------------------------------------------------


def save_images(root, counts, size=(5, 4), mode="RGB", suffix="png"):
    image = pytest.importorskip("PIL.Image")
    for part in ("train", "test"):
        for name, count in counts.items():
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape = size if mode == "L" else (*size, 3)
                pixels = np.full(shape, ord(name[0]) + i, "uint8")
                image.fromarray(pixels).save(folder / f"{i:02d}.{suffix}")


def test_image_folder(tmp_path):
    save_images(tmp_path, {"cat": 3, "ant": 2})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".cache").mkdir()
    (x_train, y_train), (x_test, y_test) = load(tmp_path)
    assert x_train.shape == x_test.shape == (5, 5, 4, 3)
    assert x_train.dtype == "uint8"
    assert y_train.dtype == "int64"
    assert y_train.tolist() == y_test.tolist() == [0, 0, 1, 1, 1]  # sorted: ant, cat
    assert x_train[:, 0, 0, 0].tolist() == [97, 98, 99, 100, 101]


def test_image_folder_long_tailed_and_relative(tmp_path):
    save_images(tmp_path / "set", {"a": 4, "b": 4}, suffix="JPG")
    (x_train, y_train), (_, y_test) = load("set", imbalance_factor=4, data_dir=str(tmp_path))
    assert class_counts(y_train).tolist() == [4, 1]
    assert len(x_train) == 5
    assert len(y_test) == 8


def test_grey_images(tmp_path):
    save_images(tmp_path, {"a": 2, "b": 1}, mode="L")
    assert load(tmp_path)[0][0].shape == (3, 5, 4, 1)


def test_grey_among_coloured_images(tmp_path):
    save_images(tmp_path, {"a": 1}, mode="L")
    save_images(tmp_path, {"b": 1})
    x_train = load(tmp_path)[0][0]
    assert x_train.shape == (2, 5, 4, 3)
    assert (x_train[0] == 97).all()


def test_images_of_two_sizes(tmp_path):
    save_images(tmp_path, {"a": 1})
    save_images(tmp_path, {"b": 1}, size=(5, 5))
    with pytest.raises(ValueError, match=r"same size; resize.*\(5, 5\) .*b.00\.png.*\(5, 4\) in "):
        load(tmp_path)


def test_folder_without_a_part(tmp_path):
    save_images(tmp_path, {"a": 1})
    (tmp_path / "test").rename(tmp_path / "validation")
    with pytest.raises(ValueError, match=r"`test/CLASS/IMAGE`.*Received: a folder without 'test'"):
        load(tmp_path)


def test_folder_without_images(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"no images; .*\.png.*Received: .*train"):
        load(tmp_path)


def test_parts_with_different_classes(tmp_path):
    save_images(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "test" / "b" / "00.png").unlink()
    with pytest.raises(ValueError, match=r"same classes.*only one of them has images of b"):
        load(tmp_path)


def test_folder_without_pillow(tmp_path, monkeypatch):
    save_images(tmp_path, {"a": 1})
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs pillow: pip install pillow\."):
        load(tmp_path)


@pytest.mark.parametrize("linked", ["image", "class", "part"])
def test_links_out_of_a_folder(tmp_path, linked):
    save_images(tmp_path / "elsewhere", {"a": 3, "b": 2})
    save_images(tmp_path / "set", {"a": 2, "b": 2})
    expected = load(tmp_path / "set")[0][1].tolist()
    place = {"image": "train/a/99.png", "class": "train/c", "part": "train"}[linked]
    target = {"image": "train/a/00.png", "class": "train/a", "part": "train"}[linked]
    link = tmp_path / "set" / place
    if linked == "part":
        link.rename(tmp_path / "old")
    if linked == "class":
        save_images(tmp_path / "set", {"a": 2, "b": 2})
        (tmp_path / "set" / "test" / "c").mkdir()
        (tmp_path / "set" / "test" / "c" / "0.png").symlink_to(
            tmp_path / "set" / "test" / "a" / "00.png"  # a link that stays inside
        )
    link.symlink_to(tmp_path / "elsewhere" / target)
    message = rf"leads out of it.*`follow_links=True`.*set/{place}'.*elsewhere/{target}'"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "set")
    labels = load(tmp_path / "set", follow_links=True)[0][1].tolist()
    more = {"image": [0, 0, 0, 1, 1], "class": [*expected, 2, 2, 2], "part": [0, 0, 0, 1, 1]}
    assert labels == more[linked]


def test_links_inside_a_folder_and_to_it(tmp_path):
    save_images(tmp_path / "set", {"a": 2, "b": 2})
    (tmp_path / "set" / "train" / "a" / "02.png").symlink_to("01.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for name in ("set", "link"):
        assert load(tmp_path / name)[0][1].tolist() == [0, 0, 0, 1, 1]


def test_a_link_to_nothing(tmp_path):
    save_images(tmp_path, {"a": 1})
    (tmp_path / "train" / "a" / "01.png").symlink_to("02.png")
    with pytest.raises(ValueError, match=r"cannot be read.*Received: .*01\.png"):
        load(tmp_path)


def test_a_damaged_image(tmp_path):
    save_images(tmp_path, {"a": 2}, size=(40, 40))
    path = tmp_path / "train" / "a" / "01.png"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"text", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot be read. Repair or remove it.*01\.png"):
            load(tmp_path)


# --- TensorFlow Datasets --------------------------------------------------------------------


@pytest.fixture
def fake_tfds(monkeypatch):
    """Stands in for TensorFlow Datasets, and keeps what it was asked for."""
    module = types.ModuleType("tensorflow_datasets")
    module.calls = []

    def fake_load(name, *, split, batch_size, as_supervised, shuffle_files, data_dir):
        module.calls.append((name, split, batch_size, as_supervised, shuffle_files, data_dir))
        images = np.zeros((40, 32, 32, 3), "uint8")
        images[:, 0, 0, 0] = np.arange(40)
        labels = np.arange(40, dtype="int64") % 10
        batches = [(images[:25], labels[:25]), (images[25:], labels[25:])]
        return [("data set", batches), ("data set", batches[:1])]

    def as_numpy(dataset):
        assert dataset[0] == "data set"
        return iter(dataset[1])

    module.load, module.as_numpy = fake_load, as_numpy
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return module


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(fake_tfds, name):
    (x_train, y_train), (x_test, y_test) = load(name, data_dir=Path("somewhere"))
    assert fake_tfds.calls == [(name, ["train", "test"], 1000, True, False, "somewhere")]
    assert x_train.shape == (40, 32, 32, 3)
    assert x_train.dtype == "uint8"
    assert y_train.dtype == y_test.dtype == "int64"
    assert len(x_test) == 25
    load(name)
    assert fake_tfds.calls[-1][-1] is None


def test_cifar_long_tailed(fake_tfds):
    (x_train, y_train), (x_test, _) = load("cifar10", imbalance_factor=4)
    np.testing.assert_array_equal(class_counts(y_train), long_tail_counts(10, 4, 4))
    np.testing.assert_array_equal(x_train[:, 0, 0, 0] % 10, y_train)
    assert len(x_test) == 25


@pytest.fixture
def real_tfds(monkeypatch, tmp_path):
    """TensorFlow Datasets itself; what it would download is made here, in the authors' format."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def download(manager, url):
        rng = np.random.RandomState(0)
        folder = tmp_path / "download" / "cifar-10-batches-bin"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            # A label's byte, then 32 x 32 red, green and blue values. Red tells the label.
            labels = rng.randint(0, 10, 8)
            rows = [bytes([label]) + bytes([label] * 1024 + [7] * 2048) for label in labels]
            (folder / name).write_bytes(b"".join(rows))
        return str(folder.parent)

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", download)
    return tmp_path / "tfds"


def test_the_real_tensorflow_datasets(real_tfds):
    pytest.importorskip("tensorflow")
    (x_train, y_train), (x_test, y_test) = load("cifar10", data_dir=real_tfds)
    assert x_train.shape == (40, 32, 32, 3)
    assert x_test.shape == (8, 32, 32, 3)
    assert x_train.dtype == "uint8"
    assert y_train.dtype == "int64"
    assert len(np.unique(y_train)) > 5
    for x, y in ((x_train, y_train), (x_test, y_test)):
        np.testing.assert_array_equal(x[:, 5, 6, 0], y)
        assert (x[..., 1:] == 7).all()
    again, _ = load("cifar10", data_dir=str(real_tfds))  # what was written the first time
    np.testing.assert_array_equal(again[1], y_train)


def test_what_tensorflow_datasets_needs_is_declared():
    # Its own list leaves it out.
    root = Path(__file__).parent.parent.parent
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for extra in ("data", "dev"):
        names = {re.match(r"[\w-]+", line)[0] for line in extras["optional-dependencies"][extra]}
        assert {"tensorflow-datasets", "importlib-resources"} <= names


def test_tensorflow_datasets_without_what_it_needs(monkeypatch):
    module = types.ModuleType("tensorflow_datasets")

    def fail(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'importlib_resources'")

    module.load = fail
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    message = r"not all that it needs: pip install \"keras-lpl\[data\]\".*'importlib_resources'"
    with pytest.raises(ImportError, match=message):
        load("cifar10")


@pytest.fixture
def keras_datasets(monkeypatch):
    """TensorFlow Datasets is not installed, and `keras.datasets` has few images."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for number, module in enumerate([keras.datasets.cifar10, keras.datasets.cifar100]):

        def load_data(number=number):
            labels = np.arange(40, dtype="uint8")[:, None] % 10
            images = np.zeros((40, 32, 32, 3), "uint8")
            images[:, 0, 1, 2] = 100 * number + np.arange(40)
            if keras.config.image_data_format() == "channels_first":
                images = images.transpose(0, 3, 1, 2)
            return (images, labels), (images[:25], labels[:25])

        monkeypatch.setattr(module, "load_data", load_data)


@pytest.mark.parametrize(("name", "first"), [("cifar10", 0), ("cifar100", 100)])
@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
def test_cifar_without_tensorflow_datasets(keras_datasets, monkeypatch, name, first, order):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: order)
    (x_train, y_train), (x_test, y_test) = load(name)
    assert x_train.shape == (40, 32, 32, 3)
    np.testing.assert_array_equal(x_train[:, 0, 1, 2], first + np.arange(40))
    assert x_train.dtype == "uint8"
    assert y_train.dtype == y_test.dtype == "int64"
    assert y_train.tolist() == [label % 10 for label in range(40)]
    assert len(x_test) == len(y_test) == 25
    assert class_counts(load(name, imbalance_factor=4)[0][1]).tolist()[::9] == [4, 1]


def test_a_folder_for_keras_datasets(keras_datasets):
    with pytest.raises(ImportError, match=r"`data_dir`.*pip install tensorflow-datasets.*leave it"):
        load("cifar10", data_dir="somewhere")


def test_the_loaders_of_keras_take_no_arguments():
    # `keras.datasets` is a stand-in above; this is what it stands in for.
    for module in (keras.datasets.cifar10, keras.datasets.cifar100):
        inspect.signature(module.load_data).bind()


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
