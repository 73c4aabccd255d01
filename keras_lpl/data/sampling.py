"""Resampling of the training set, and labels redrawn on purpose.

A sampler draws a class `c` with probability `p_c`, then one of its `N_c` samples:

    p_c = 1 / C                         "class_balanced"
    p_c = (1 / N_c) / sum_k (1 / N_k)   "reversed"
    p_c = N_c / N                       "instance": every sample alike

A disturbed label is redrawn uniformly over all C classes with probability `rate`, and else kept.

References: Cui et al., "Large Scale Fine-Grained Categorization and Domain-Specific Transfer
Learning", CVPR 2018 (fine-tuning on balanced data); Zhou et al., "BBN: Bilateral-Branch Network
with Cumulative Learning for Long-Tailed Visual Recognition", CVPR 2020 (the reversed sampler); Xie
et al., "DisturbLabel: Regularizing CNN on the Loss Layer", CVPR 2016.
"""

from typing import Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts
from keras_lpl.data._labels import class_ids, label_array

SAMPLINGS = ("class_balanced", "reversed", "instance")
PAIRED = "paired"
"""Every sample once, and with each batch as many that the reversed sampler draws (BBN)."""


def class_probabilities(class_counts: Counts, sampling: str) -> np.ndarray:
    """Probability with which a sampler draws each class.

    Args:
        class_counts: Training samples N_c of each class, shape `(C,)`, in the
            order of the class numbers; see `class_counts`.
        sampling: Name of the sampler:
            - `"class_balanced"`: every class alike, 1 / C;
            - `"reversed"`: the rarer, the more often, proportional to 1 / N_c
              (BBN, Zhou et al. 2020);
            - `"instance"`: as in the training set, N_c / N.

            A class without samples is never drawn: its probability is 0, and C
            and the sums leave it out.

    Returns:
        float64 array of shape `(C,)` that sums to 1.

    Raises:
        ValueError: If a count is negative, all are 0, or there is no such sampler.

    Example:

    >>> from keras_lpl.data import class_probabilities
    >>> class_probabilities([60, 30, 10], "reversed").round(3)
    array([0.111, 0.222, 0.667])
    >>> class_probabilities([60, 0, 40], "class_balanced")
    array([0.5, 0. , 0.5])
    """
    counts = np.array(
        checks.class_counts(class_counts, allow_zero=True, multi_label=False), "float64"
    )
    checks.one_of(sampling, "sampling", SAMPLINGS)
    if not counts.any():
        raise ValueError(
            "`class_counts` must count at least one sample: there is none to draw. "
            f"Received: class_counts={class_counts!r}"
        )
    return _probabilities(counts, sampling)


def sample_indices(
    labels: Any, sampling: str = "class_balanced", size: int | None = None, seed: int = 0
) -> np.ndarray:
    """Draws samples with replacement: first a class, then one of its samples.

    NumPy's global random state is neither read nor changed, and the generator is
    one whose numbers NumPy keeps unchanged over its versions.

    Args:
        labels: Labels of the training set: integers `(N,)` or `(N, 1)`, or
            one-hot or soft `(N, C)`, which count for their largest share.
        sampling: How often each class is drawn: `"class_balanced"`, `"reversed"`
            or `"instance"`; see `class_probabilities`.
        size: How many to draw. Defaults to N.
        seed: Integer from 0 to 2**32 - 1.

    Returns:
        int64 array of shape `(size,)`: indices into `labels`, in random order.

    Raises:
        ValueError: If there are no labels, they are malformed, or an argument is
            out of range.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import sample_indices
    >>> labels = np.repeat([0, 1, 2], [600, 300, 100])
    >>> np.bincount(labels[sample_indices(labels, "class_balanced", size=3000)])
    array([1001,  971, 1028])
    """
    checks.one_of(sampling, "sampling", SAMPLINGS)
    seed = checks.seed(seed)
    ids, _ = class_ids(labels)
    if not len(ids):
        raise ValueError(
            f"`labels` must hold at least one label to draw from. Received: labels={labels!r}"
        )
    size = len(ids) if size is None else checks.integer(size, "size", minimum=1)
    return _sampler(ids, sampling)(np.random.RandomState(seed), size)


def disturb_labels(labels: Any, num_classes: int, rate: float, seed: int = 0) -> np.ndarray:
    """Redraws a share of the labels uniformly over all classes: DisturbLabel.

    Each label is redrawn with probability `rate`, and the draw may hit the class
    it had, so a label keeps its class with probability `1 - rate * (C - 1) / C`.
    For training labels only, and anew in each epoch, which `ArrayDataset` and
    `pipeline` do with `disturb_rate`.

    Args:
        labels: Integers `(N,)` or `(N, 1)`, or one-hot or soft `(N, C)`. A label
            that is redrawn becomes one-hot, even where it was soft.
        num_classes: Number of classes C.
        rate: The paper's noise rate alpha as a share, from 0 to 1. (The paper
            writes it in percent.)
        seed: Integer from 0 to 2**32 - 1.

    Returns:
        A new array, of the shape and dtype of `labels`.

    Raises:
        ValueError: If a label is not below `num_classes`, the dtype of `labels`
            cannot hold every class, or an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import disturb_labels
    >>> labels = np.repeat([0, 1, 2, 3], 1000)
    >>> disturbed = disturb_labels(labels, num_classes=4, rate=0.2)
    >>> float((disturbed == labels).mean())  # expected: 1 - 0.2 * 3 / 4
    0.84775
    """
    num_classes = checks.integer(num_classes, "num_classes", minimum=2)
    rate = checks.number(rate, "rate", minimum=0, maximum=1)
    seed = checks.seed(seed)
    labels = label_array(labels, "labels")
    _, width = class_ids(labels, num_classes)
    classes = np.arange(num_classes)
    if width is None and (classes.astype(labels.dtype) != classes).any():
        raise ValueError(
            "`labels` must be of a dtype that can hold every class, such as int64. "
            f"Received: dtype {labels.dtype}, num_classes={num_classes}"
        )
    own = np.arange(len(labels))
    places = _disturbed(np.random.RandomState(seed), own, len(labels), num_classes, rate)
    return _with_a_label_of_each_class(labels, num_classes)[places]


class EpochDraws:
    """Samples and labels of each epoch of `ArrayDataset` and `pipeline`, by `(seed, epoch)` alone.

    Called with the number of an epoch, it returns `(samples, places, random)`: the
    samples in their order, int `(N,)`; where in `labels` the label of each of them
    is, int `(N,)`; and the generator, for whatever else that epoch draws.

    Args:
        labels: Labels of the training set, NumPy, `(N, ...)`. They need to be
            class labels only where a sampler or a disturb rate asks for it.
        sampling: One of `SAMPLINGS`; `PAIRED`; or `None`: every sample once.
        disturb_rate: Probability that a label is redrawn: over the C classes of
            one-hot labels, or over 0 to the largest integer label.
        seed: Integer from 0 to 2**32 - 1.
        shuffle: If True, every epoch has an order of its own, without a sampler.
        batch_size: Samples per batch, which `PAIRED` has to know.

    Attributes:
        labels: The labels; if they are disturbed, followed by one of each class.
        size: Samples of an epoch: N, or 2 N if they are paired.
        batch_size: Samples of a batch, likewise.

    Raises:
        ValueError: If an argument is out of range, or `labels` are no class labels.
    """

    def __init__(
        self,
        labels: Any,
        sampling: str | None,
        disturb_rate: float,
        seed: int,
        shuffle: bool = True,
        batch_size: int = 1,
    ) -> None:
        checks.one_of(sampling, "sampling", (None, *SAMPLINGS, PAIRED))
        self._disturb_rate = checks.number(disturb_rate, "disturb_rate", minimum=0, maximum=1)
        self._seed = checks.seed(seed)
        self._size = len(labels)
        self._shuffle = shuffle
        self._sample = self._sample_pairs = None
        self.labels = labels
        factor = 2 if sampling == PAIRED else 1
        self.size, self.batch_size = factor * self._size, factor * batch_size
        if sampling is None and not self._disturb_rate:
            return
        ids, width = class_ids(labels, name="y")
        if sampling == PAIRED:
            self._sample_pairs = _sampler(ids, "reversed")
        elif sampling is not None:
            self._sample = _sampler(ids, sampling)
        if self._disturb_rate:
            self._num_classes = width or int(ids.max()) + 1
            self.labels = _with_a_label_of_each_class(labels, self._num_classes)

    def __call__(self, epoch: int) -> tuple[Any, ...]:
        random = np.random.RandomState([self._seed, epoch])
        if self._sample is not None:
            samples = self._sample(random, self._size)
        elif self._shuffle:
            samples = random.permutation(self._size)
        else:
            samples = np.arange(self._size)
        if self._sample_pairs is not None:
            own = np.random.RandomState([self._seed, epoch, 2])
            pairs = self._sample_pairs(own, self._size)
            samples = _interleaved(samples, pairs, self.batch_size // 2)
        places = samples
        if self._disturb_rate:
            # A stream of its own, so that it does not matter what else is drawn from `random`.
            own = np.random.RandomState([self._seed, epoch, 1])
            places = _disturbed(own, samples, self._size, self._num_classes, self._disturb_rate)
        return samples, places, random


def _probabilities(counts, sampling):
    present = counts > 0
    if sampling == "instance":
        weights = counts.astype("float64")
    elif sampling == "class_balanced":
        weights = present.astype("float64")
    else:
        weights = np.where(present, 1 / np.where(present, counts, 1.0), 0.0)
    return weights / weights.sum()


def _sampler(ids, sampling):
    """Returns `(random, size) -> indices`; `ids` are class numbers `(N,)`."""
    counts = np.bincount(ids)
    probabilities = _probabilities(counts, sampling)
    by_class = np.argsort(ids, kind="stable")
    start = np.cumsum(counts) - counts

    def draw(random, size):
        classes = random.choice(len(counts), size, p=probabilities)
        # A dtype of its own: the default depends on the platform, and the numbers with it.
        member = random.randint(0, counts[classes], dtype="int64")
        return by_class[start[classes] + member]

    return draw


def _interleaved(first, second, batch_size):
    """Batches of `first`, each followed by one of `second`."""
    cuts = range(batch_size, len(first), batch_size)
    pairs = zip(np.split(first, cuts), np.split(second, cuts), strict=True)
    return np.concatenate([part for pair in pairs for part in pair])


def _with_a_label_of_each_class(labels, num_classes):
    """Labels `(N, ...)`, followed by the C ones that a redrawn label can become."""
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    of_class = np.eye(num_classes) if one_hot else np.arange(num_classes)
    of_class = of_class.reshape(num_classes, *labels.shape[1:])
    return np.concatenate([labels, of_class.astype(labels.dtype)])


def _disturbed(random, places, size, num_classes, rate):
    """Points a share of `places` to one of the classes' labels, which follow `size` others."""
    is_redrawn = random.random_sample(len(places)) < rate
    classes = random.randint(0, num_classes, len(places), dtype="int64")
    return np.where(is_redrawn, size + classes, places)
