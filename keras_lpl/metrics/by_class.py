"""Recall and precision of each class, and the geometric mean of the recalls."""

import math
from typing import Any

from keras import ops

from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.metrics._class_recall import OfAllClasses


class _ByClass(OfAllClasses):
    def result(self) -> Tensor:
        """One number for each class, of the samples since the last reset."""
        if self._shape is None:
            return ops.zeros((), dtype=self.dtype)
        share, seen = self._recall()
        return ops.cast(ops.where(seen > 0, share, math.nan), self.dtype)


@register
class RecallByClass(_ByClass):
    """Recall of each class: the share of its samples that are predicted as it.

        recall_c = hits_c / n_c

    Keras's progress bar shows a mean; `evaluate(..., return_dict=True)` returns the array. A class
    without samples has NaN.

    Args:
        num_classes: Number of classes C, at least 2. `None` reads it from the first predictions.
        name: Name of the metric.
        dtype: Of the result. Counting is done in float32.
        from_logits: False if the predictions of one logit or several labels are probabilities.
        multi_label: True for several labels per sample: the result is then `(labels, 2)`,
            negatives and positives.
        ignore_class: Class index whose rows do not count.

    Result shape: `(classes,)`, or `(labels, 2)`.

    Raises:
        ValueError: for a label that is not a class (in compiled code: NaN).

    Example:

    >>> metric = keras_lpl.metrics.RecallByClass()
    >>> metric.update_state([0, 0, 0, 1], [[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    >>> print(keras.ops.convert_to_numpy(metric.result()).round(3))
    [0.667 1.   ]
    """

    def __init__(
        self,
        num_classes: int | None = None,
        name: str | None = "recall_by_class",
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(num_classes, name, dtype, from_logits, multi_label, ignore_class)


@register
class PrecisionByClass(_ByClass):
    """Precision of each class: the share of what is predicted as it that is right.

        precision_c = hits_c / predicted_c

    Losses for imbalanced classes pay for the recall of rare classes with their precision: look at
    both. A class that is never predicted has NaN.

    Args:
        num_classes: As in `keras_lpl.metrics.RecallByClass`, as all that follow.
        name: Name of the metric.
        dtype: Of the result.
        from_logits: False if the predictions of one logit or several labels are probabilities.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows do not count.

    Result shape: `(classes,)`, or `(labels, 2)`.

    Raises:
        ValueError: for a label that is not a class (in compiled code: NaN).

    Example:

    >>> metric = keras_lpl.metrics.PrecisionByClass()
    >>> metric.update_state([0, 0, 0, 1], [[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    >>> print(keras.ops.convert_to_numpy(metric.result()))
    [1.  0.5]
    """

    of_predicted = True

    def __init__(
        self,
        num_classes: int | None = None,
        name: str | None = "precision_by_class",
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(num_classes, name, dtype, from_logits, multi_label, ignore_class)


@register
class GeometricMean(OfAllClasses):
    """Geometric mean of the recalls of the classes that occur.

        G = (product of recall_c over c with n_c > 0) ^ (1 / number of these classes)

    Kubat and Matwin, "Addressing the Curse of Imbalanced Training Sets", ICML 1997. Stricter than
    the balanced accuracy: a single class that is never found makes it 0. It is imbalanced-learn's
    `geometric_mean_score`.

    Args:
        num_classes: As in `keras_lpl.metrics.RecallByClass`, as all that follow.
        name: Name of the metric.
        dtype: Of the result.
        from_logits: False if the predictions of one logit or several labels are probabilities.
        multi_label: True for several labels per sample: the mean is over both sides of each label.
        ignore_class: Class index whose rows do not count.

    Before any sample the result is 0.

    Raises:
        ValueError: for a label that is not a class (in compiled code: NaN).

    Example:

    >>> metric = keras_lpl.metrics.GeometricMean()
    >>> metric.update_state([0, 0, 0, 1], [[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    >>> print(round(float(metric.result()), 4))  # sqrt(2/3 * 1)
    0.8165
    """

    def __init__(
        self,
        num_classes: int | None = None,
        name: str | None = "geometric_mean",
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(num_classes, name, dtype, from_logits, multi_label, ignore_class)

    def result(self) -> Tensor:
        """Geometric mean of the samples since the last reset."""
        if self._shape is None:
            return ops.zeros((), dtype=self.dtype)
        recall, seen = self._recall()
        # The logarithm of 0 is -inf, and its exponential 0 again.
        log = ops.log(ops.where(seen > 0, recall, 1.0))
        classes = ops.sum(seen)
        mean = ops.exp(ops.sum(log) / ops.maximum(classes, 1.0))
        return ops.cast(ops.where(classes > 0, mean, 0.0), self.dtype)
