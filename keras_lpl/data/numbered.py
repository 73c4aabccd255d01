"""Labels with the number of their sample, for methods that keep something of each."""

from typing import Any

import numpy as np

from keras_lpl.data._labels import class_ids


def numbered_labels(labels: Any) -> np.ndarray:
    """Labels with the number of their sample: -1 for the first one, -2, and so on.

    Negative, so that nothing takes a row for a one-hot label.

    For `keras_lpl.models.MetaLabelCorrector`, which keeps a corrected label for each sample of the
    training set. Number the labels once, before anything shuffles them: `fit`, `ArrayDataset`,
    `pipeline` and `tf.data` take them as they take other labels.

    Args:
        labels: Integers `(N,)` or `(N, 1)`, or one-hot labels `(N, C)`.

    Returns:
        int32 array `(N, 2)`: class index and number.

    Raises:
        ValueError: If the labels are no classes.

    Example:

    >>> from keras_lpl.data import numbered_labels
    >>> numbered_labels([2, 0, 1])
    array([[ 2, -1],
           [ 0, -2],
           [ 1, -3]], dtype=int32)
    """
    ids, _ = class_ids(labels)
    return np.stack([ids, -1 - np.arange(len(ids))], axis=1).astype("int32")
