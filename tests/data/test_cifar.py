"""`data.load` of CIFAR: from TensorFlow Datasets, or else from Keras."""

import inspect
import re
import sys
import tomllib
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lpl.data import class_counts, load, long_tail_counts


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
