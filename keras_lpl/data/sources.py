"""Data sets as four NumPy arrays, with a long-tailed training part on request."""

import importlib
import math
import os
import zipfile
import zlib

import keras
import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._labels import class_ids
from keras_lpl.data._optional import import_optional
from keras_lpl.data.long_tail import long_tail_counts, long_tail_indices

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
# The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
# Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0), the set that scikit-learn has.
_DIGITS = os.path.join(os.path.dirname(__file__), "digits.npz")
_DIGITS_TEST_PER_CLASS = 40
_DIGITS_SPLIT_SEED = 0
_TFDS_BATCH_SIZE = 1000  # only to read faster than image by image
# What an .npz file may unpack to: no images shrink to a hundredth, and small files do no harm.
_MAX_RATIO = 100
_MAX_BYTES = 2**28


def load(
    name: str | os.PathLike,
    imbalance_factor: float | None = None,
    seed: int | None = 0,
    data_dir: str | os.PathLike | None = None,
    *,
    max_count: int | None = None,
    max_bytes: int | None = None,
    follow_links: bool = False,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Loads a data set; with `imbalance_factor`, its training part long-tailed.

    The training part is cut down to `long_tail_counts(C, max_count,
    imbalance_factor)`, the exponential profile with class 0 the most frequent,
    by `long_tail_indices(y_train, counts, seed)`. The test part stays as it is.

    Args:
        name: What to load:
            - `"digits"`: 1,797 handwritten digits that come with this package, those of
              scikit-learn. Float32 `(N, 8, 8, 1)` in [0, 1]. The test part is 40
              images of each class, the same ones for every `seed`, so that runs
              with different seeds can be compared; the other 1,397 are for
              training, 134 to 143 of a class.
            - `"cifar10"`, `"cifar100"`: from TensorFlow Datasets, or, where that is not
              installed, from `keras.datasets`, which both download them once. uint8
              `(N, 32, 32, 3)`. The two have the images in another order, so one
              `seed` picks other images of each.
            - path of an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test`;
              `x` comes back as stored.
            - path of a folder with `train/CLASS/IMAGE` and `test/CLASS/IMAGE`.
              Classes are numbered in the sorted order of their names. All images
              must have one size. uint8 `(N, H, W, 3)`, or `(N, H, W, 1)` if every
              image is grey. Everything is held in memory.
        imbalance_factor: Count of class 0 over that of the last class, at least
            1; or `None` to take all training data.
        seed: Seed of the training subsample; or `None` to take the first images
            of each class, for sources whose order is already shuffled and agreed
            upon.
        data_dir: Where TensorFlow Datasets keeps its files (it has a default), or
            what a relative path is relative to. Not used by `"digits"`, and refused
            by `keras.datasets`.
        max_count: Training images of class 0 in the long-tailed set. Defaults to
            all that class 0 has (of the digits: to the size of the smallest
            class), so a source that is itself a long tail of factor 10 gives
            any factor from 10 up as if cut from the full set.
        max_bytes: What the arrays of an `.npz` file may unpack to. Defaults to 100
            times the size of the file, or 256 MiB if that is more: a file that
            unpacks to more than that was made to fill the memory.
        follow_links: If True, links inside an image folder may lead out of it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: NumPy arrays; labels are int64 of
        shape `(N,)`.

    Raises:
        ValueError: If the name is unknown, a source is missing, malformed or too large,
            a link leads out of a folder, or a class has too few images for the factor.
        ImportError: If a package is missing; the message names it.

    Example:

    >>> import keras_lpl
    >>> (x_train, y_train), (x_test, y_test) = keras_lpl.data.load("digits", imbalance_factor=50)
    >>> x_train.shape, x_test.shape
    ((371, 8, 8, 1), (400, 8, 8, 1))
    >>> keras_lpl.data.class_counts(y_train)
    array([134,  86,  56,  36,  23,  15,   9,   6,   4,   2])
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(
            "`name` must be a data set's name or a path. "
            f"Received: name={name!r} (of type {type(name).__name__})"
        )
    if max_bytes is not None:
        max_bytes = checks.integer(max_bytes, "max_bytes", minimum=1)
    (x_train, y_train), (x_test, y_test) = _read(name, data_dir, max_bytes, follow_links)
    if imbalance_factor is None:
        if max_count is not None:
            raise ValueError(
                "`max_count` needs `imbalance_factor` (1 for a balanced set). "
                f"Received: imbalance_factor=None, max_count={max_count}"
            )
        return (x_train, y_train), (x_test, y_test)

    num_classes = int(max(y_train.max(), y_test.max())) + 1
    available = np.bincount(y_train, minlength=num_classes)
    if max_count is None:
        # The digits are meant to be balanced, and nearly are.
        max_count = int(available.min() if name == "digits" else available[0])
    counts = long_tail_counts(num_classes, max_count, imbalance_factor)
    _check_feasible(counts, available, max_count, imbalance_factor)
    keep = long_tail_indices(y_train, counts, seed)
    return (x_train[keep], y_train[keep]), (x_test, y_test)


def _read(name, data_dir, max_bytes, follow_links):
    if name == "digits":
        return _read_digits()
    if name in ("cifar10", "cifar100"):
        return _read_cifar(name, data_dir)
    path = os.path.join(data_dir or "", name)
    received = f"Received: name={str(name)!r}, data_dir={data_dir!r}"
    if os.path.isdir(path):
        return _read_folder(path, follow_links)
    if not os.path.exists(path):
        raise ValueError(
            f"There is no file or folder {os.path.abspath(path)!r}, and `name` is none of "
            f'"digits", "cifar10" and "cifar100". {received}'
        )
    if str(path).endswith(".npz"):
        return _read_npz(path, max_bytes)
    raise ValueError(
        '`name` must be "digits", "cifar10", "cifar100", the path of an .npz file, or that of '
        f"a folder. {received}, which is another kind of file"
    )


def _check_feasible(counts, available, max_count, imbalance_factor):
    """Says which class has too few images, and which requests would work."""
    short = np.flatnonzero(counts > available)
    if not len(short):
        return
    label = int(short[0])
    # int(max_count * r) <= n exactly when max_count * r < n + 1, r = factor ** (-c / (C - 1)).
    room = (available[1:] + 1.0)[available[1:] < max_count]
    power = ((len(counts) - 1) / np.arange(1, len(counts)))[available[1:] < max_count]
    smallest = math.floor(np.max((max_count / room) ** power, initial=1.0) * 100 + 1) / 100
    shares = float(imbalance_factor) ** (-np.arange(len(counts)) / (len(counts) - 1))
    largest = math.ceil(np.min((available + 1) / shares)) - 1
    remedies = ["counts of your own (`long_tail_counts`, `long_tail_indices`)"]
    if available.min() > 0:
        if available[0] >= max_count and smallest <= max_count:
            remedies.append(f"`imbalance_factor` of at least {smallest:g}")
        if largest >= imbalance_factor:
            remedies.append(f"`max_count` of at most {largest}")
    raise ValueError(
        f"Class {label} has too few training images for this long tail, in which class 0 is the "
        f"most frequent. Ask for {', or '.join(reversed(remedies))}. "
        f"Received: imbalance_factor={imbalance_factor:g}, max_count={max_count}, which asks for "
        f"{counts[label]} images of class {label}; there are {available[label]}"
    )


def _read_digits():
    with np.load(_DIGITS) as archive:
        images = (archive["images"] / 16.0).astype("float32")[..., None]  # grey levels are 0 to 16
        labels = archive["labels"].astype("int64")
    test = long_tail_indices(labels, [_DIGITS_TEST_PER_CLASS] * 10, seed=_DIGITS_SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return (images[train], labels[train]), (images[test], labels[test])


def _read_cifar(name, data_dir):
    try:
        tfds = importlib.import_module("tensorflow_datasets")
    except ModuleNotFoundError as error:
        if error.name not in (None, "tensorflow_datasets"):
            raise _broken_tfds(name, error) from error
        return _read_keras(name, data_dir)
    try:
        # Unshuffled files, so that a seed (or None) picks the same images every time.
        parts = tfds.load(
            name,
            split=["train", "test"],
            batch_size=_TFDS_BATCH_SIZE,
            as_supervised=True,
            shuffle_files=False,
            data_dir=None if data_dir is None else os.fspath(data_dir),
        )
        train, test = (zip(*tfds.as_numpy(part), strict=True) for part in parts)
        return _joined(*train), _joined(*test)
    except ImportError as error:
        raise _broken_tfds(name, error) from error


def _broken_tfds(name, error):
    return ImportError(
        f'load("{name}") found tensorflow-datasets, and not all that it needs: '
        f'pip install "keras-lpl[data]". Received: {error}'
    )


def _read_keras(name, data_dir):
    if data_dir is not None:
        raise ImportError(
            "`data_dir` is where TensorFlow Datasets keeps its files, which is not installed: "
            "pip install tensorflow-datasets. Or leave it out: `keras.datasets` keeps its files "
            f"in a place of its own. Received: name={name!r}, data_dir={data_dir!r}"
        )
    parts = getattr(keras.datasets, name).load_data()
    if keras.config.image_data_format() == "channels_first":
        parts = [(images.transpose(0, 2, 3, 1), labels) for images, labels in parts]
    train, test = ((images, labels.reshape(-1).astype("int64")) for images, labels in parts)
    return train, test


def _joined(images, labels):
    return np.concatenate(images), np.concatenate(labels).astype("int64")


def _read_npz(path, max_bytes):
    try:
        sizes = _npz_sizes(path)
    except zipfile.BadZipFile as error:
        raise _bad_npz(path, error) from error
    _check_npz_sizes(path, sizes, max_bytes)
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in _NPZ_KEYS}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("not arrays of NumPy")  # raw bytes, to NumPy
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, ValueError) as error:
        raise _bad_npz(path, error) from error
    for part in ("train", "test"):
        labels, _ = class_ids(arrays[f"y_{part}"], name=f"y_{part}")
        images = arrays[f"x_{part}"]
        if len(images) != len(labels) or not len(labels):
            raise ValueError(
                f"`x_{part}` and `y_{part}` must have the same length, at least 1. "
                f"Received: {len(images)} and {len(labels)}, in {str(path)!r}"
            )
        arrays[f"y_{part}"] = labels
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def _bad_npz(path, error):
    return ValueError(
        "An array of numbers cannot be read: this is no .npz file as `np.savez` writes it, or a "
        f"damaged one. Received: {str(path)!r}: {error}"
    )


def _npz_sizes(path):
    """Sizes of the arrays in bytes, by name, as the archive declares them. Unpacks nothing."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}


def _check_npz_sizes(path, sizes, max_bytes):
    missing = [key for key in _NPZ_KEYS if key not in sizes]
    if missing:
        raise ValueError(
            f"The .npz file must hold {', '.join(_NPZ_KEYS)}; {', '.join(missing)} missing. "
            f"Received: {str(path)!r} with {', '.join(sizes) or 'nothing'}"
        )
    own_size = os.path.getsize(path)
    unpacked = sum(sizes[key] for key in _NPZ_KEYS)
    limit = max(_MAX_BYTES, _MAX_RATIO * own_size) if max_bytes is None else max_bytes
    if unpacked > limit:
        raise ValueError(
            f"The .npz file may unpack to {limit} bytes. If you trust it and have the memory, pass "
            f"`max_bytes={unpacked}`. Received: {str(path)!r}, of {own_size} bytes, which unpacks "
            f"to {unpacked}"
        )


def _read_folder(root, follow_links):
    home = None if follow_links else os.path.realpath(root)
    files = {part: _image_files(os.path.join(root, part), home) for part in ("train", "test")}
    names = {part: sorted({name for name, _ in rows}) for part, rows in files.items()}
    if names["train"] != names["test"]:
        odd = sorted(set(names["train"]) ^ set(names["test"]))
        raise ValueError(
            "`train` and `test` must hold images of the same classes. "
            f"Received: {root!r}, where only one of them has images of {', '.join(odd)}"
        )
    label_of = {name: label for label, name in enumerate(names["train"])}
    images = _read_images([path for rows in files.values() for _, path in rows])
    labels = np.array([label_of[name] for rows in files.values() for name, _ in rows], "int64")
    cut = len(files["train"])
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def _image_files(folder, home):
    """Lists `(class name, path)`, sorted; what is not an image is passed over."""
    if not os.path.isdir(folder):
        raise ValueError(
            "An image folder must hold `train/CLASS/IMAGE` and `test/CLASS/IMAGE`. "
            f"Received: a folder without {os.path.basename(folder)!r}: {os.path.dirname(folder)!r}"
        )
    _check_link(folder, home)
    files = [
        (os.path.basename(path), image)
        for path in _visible(folder, home)
        if os.path.isdir(path)
        for image in _visible(path, home)
        if image.lower().endswith(IMAGE_SUFFIXES)
    ]
    if not files:
        raise ValueError(
            f"There are no images; they must lie in a folder per class and end in "
            f"{', '.join(IMAGE_SUFFIXES)}. Received: {folder!r}"
        )
    return files


def _visible(folder, home):
    """Lists what lies in a folder, sorted, without hidden files."""
    with os.scandir(folder) as entries:
        found = sorted(entry.path for entry in entries if not entry.name.startswith("."))
    for path in found:
        _check_link(path, home)
    return found


def _check_link(path, home):
    """Raises `ValueError` if `path` is a link out of the folder `home`, unless that is `None`."""
    if home is None or not os.path.islink(path):
        return
    target = os.path.realpath(path)
    if os.path.commonpath([home, target]) != home:
        raise ValueError(
            "A link in an image folder leads out of it. Pass `follow_links=True` if that is meant. "
            f"Received: {path!r}, which leads to {target!r}"
        )


def _read_images(paths):
    """Reads all files into one uint8 array, grey if all of them are."""
    pillow = import_optional("PIL.Image", "pillow", "load() of an image folder")
    images: list[np.ndarray] = []
    for path in paths:
        try:
            with pillow.open(path) as image:
                grey = image.mode in ("1", "L")
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises, by format
            raise ValueError(
                f"An image cannot be read. Repair or remove it. Received: {path!r}: {error}"
            ) from error
        if images and pixels.shape[:2] != images[0].shape[:2]:
            raise ValueError(
                "All images must have the same size; resize them first. "
                f"Received: {pixels.shape[:2]} (height, width) in {path!r}, "
                f"{images[0].shape[:2]} in {paths[0]!r}"
            )
        images.append(pixels if pixels.ndim == 3 else pixels[..., None])
    if all(image.shape[-1] == 1 for image in images):
        return np.stack(images)
    shape = (*images[0].shape[:2], 3)
    return np.stack([np.broadcast_to(image, shape) for image in images])
