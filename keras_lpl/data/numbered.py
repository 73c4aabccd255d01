"""Labels with the number of their sample, for methods that keep something of each."""

from typing import Any

import numpy as np

from keras_lpl.data._labels import class_ids, label_array


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
        ValueError: If the labels are no classes, or soft.

    Example:

    >>> from keras_lpl.data import numbered_labels
    >>> numbered_labels([2, 0, 1])
    array([[ 2, -1],
           [ 0, -2],
           [ 1, -3]], dtype=int32)
    """
    ids, width = class_ids(labels)
    array = label_array(labels, "labels")
    if width is not None and not ((array == 0) | (array == 1)).all():
        raise ValueError(
            "`labels` must have one class each, and soft labels have shares of several. Pass class "
            f"indices or one-hot labels. Received: soft labels of shape {array.shape}"
        )
    return np.stack([ids, -1 - np.arange(len(ids))], axis=1).astype("int32")
