"""Long-tailed class counts, and subsamples that have them.

Reference: Cui et al., "Class-Balanced Loss Based on Effective Number of
Samples", CVPR 2019; the step profile is that of Buda et al., "A systematic study
of the class imbalance problem in convolutional neural networks", 2018.
"""

import math
import numbers
from typing import Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts
from keras_lpl.data._labels import class_ids

PROFILES = ("exponential", "step")


def long_tail_counts(
    num_classes: int, max_count: int, imbalance_factor: float, profile: str = "exponential"
) -> np.ndarray:
    """Class counts of a long-tailed training set, class 0 the most frequent.

    With C classes and the imbalance factor IF, class c has

        n_c = int(max_count * (1 / IF) ** (c / (C - 1)))      ("exponential")
        n_c = max_count for c < C // 2, else int(max_count / IF)      ("step")

    Args:
        num_classes: Number of classes C, at least 2.
        max_count: Count of class 0.
        imbalance_factor: Count of the most frequent class over that of the
            rarest, at least 1 (balanced) and at most `max_count`.
        profile: `"exponential"` (Cui et al. 2019) or `"step"`.

    Returns:
        int64 array of shape `(C,)`, never increasing.

    Raises:
        ValueError: If an argument is out of range, or a class would be empty.

    Example:

    >>> from keras_lpl.data import long_tail_counts
    >>> long_tail_counts(10, max_count=5000, imbalance_factor=100)  # CIFAR-10-LT
    array([5000, 2997, 1796, 1077,  645,  387,  232,  139,   83,   50])
    """
    num_classes = checks.integer(num_classes, "num_classes", minimum=2)
    max_count = checks.integer(max_count, "max_count", minimum=1)
    imbalance_factor = _check_imbalance_factor(imbalance_factor)
    if profile not in PROFILES:
        raise ValueError(f"`profile` must be one of {PROFILES}. Received: profile={profile!r}")
    if imbalance_factor > max_count:
        raise ValueError(
            "`imbalance_factor` must not exceed `max_count`, or the rarest class has no sample. "
            f"Received: imbalance_factor={imbalance_factor:g}, max_count={max_count}"
        )
    if profile == "step":
        exponents = (np.arange(num_classes) >= num_classes // 2).astype("float64")
    else:
        exponents = np.arange(num_classes) / (num_classes - 1)
    counts = max_count * (1 / imbalance_factor) ** exponents
    # 49 * (1 / 49) is 1 - 1e-16, which must not become 0.
    return np.floor(counts * (1 + 1e-12)).astype("int64")


def long_tail_indices(labels: Any, counts: Counts, seed: int | None = 0) -> np.ndarray:
    """Picks `counts[c]` samples of each class c, without replacement.

    Each class is shuffled by a generator of its own, seeded with `(seed, c)`, and
    its first `counts[c]` samples are taken. So, with one seed, smaller counts
    pick a part of what larger ones pick: the set of a higher imbalance factor
    lies inside that of a lower one. NumPy's global random state is neither read
    nor changed, and the generator is one whose numbers NumPy keeps unchanged
    over its versions.

    Args:
        labels: Labels of the full set: integers `(N,)` or `(N, 1)`, or one-hot
            or soft `(N, C)`.
        counts: Number of samples wanted of each class, shape `(C,)`, in the order
            of the class numbers, or a mapping from class numbers to numbers of
            samples; see `long_tail_counts`. 0 leaves a class out.
        seed: Integer from 0 to 2**32 - 1; or `None` to take the first `counts[c]`
            of each class in the order they have, for sets that are already
            shuffled and must be cut at a fixed place.

    Returns:
        int64 array of indices into `labels`, sorted, so that the subset keeps
        the order of the full set. Shuffle when training, as `fit` and
        `pipeline` do.

    Raises:
        ValueError: If a class has fewer samples than asked for, a label is not
            below `len(counts)`, or an argument is malformed.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import long_tail_counts, long_tail_indices
    >>> labels = np.arange(1000) % 10
    >>> indices = long_tail_indices(labels, long_tail_counts(10, 100, 50), seed=1)
    >>> np.bincount(labels[indices])
    array([100,  64,  41,  27,  17,  11,   7,   4,   3,   2])
    """
    counts = _check_counts(counts)
    seed = None if seed is None else checks.seed(seed)
    ids, _ = class_ids(labels, num_classes=len(counts))
    picked = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(ids == label)
        if count > len(members):
            raise ValueError(
                f"Class {label} has fewer samples than asked for. Lower its count: a smaller "
                "`max_count`, or a larger `imbalance_factor`, of `long_tail_counts`. "
                f"Received: counts[{label}]={count}, {len(members)} samples of class {label}"
            )
        if seed is not None:
            # RandomState is frozen by NumPy's policy; the streams of default_rng may change.
            members = np.random.RandomState([seed, label]).permutation(members)
        picked.append(members[:count])
    return np.sort(np.concatenate(picked)).astype("int64", copy=False)


def _check_imbalance_factor(value):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 1:
        # Some scripts write the factor upside down.
        raise ValueError(
            "`imbalance_factor` must be a number of at least 1: the count of the most frequent "
            "class over that of the rarest (100, not 0.01). "
            f"Received: imbalance_factor={value!r}"
        )
    return float(value)


def _check_counts(counts):
    values = checks.in_class_order(counts, "counts")
    are_counts = [
        isinstance(n, numbers.Integral) and not isinstance(n, bool) and int(n) >= 0 for n in values
    ]
    if not values or not all(are_counts):
        raise ValueError(
            "`counts` must be a list of integers >= 0, one per class, of shape (C,). "
            f"Received: counts={checks.shortened(counts)}"
        )
    return [int(n) for n in values]
