"""Balanced accuracy: the mean of the classes' recalls."""

from typing import Any

from keras import ops

from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.metrics._class_recall import OfAllClasses


@register
class BalancedAccuracy(OfAllClasses):
    """Mean, over the classes that occur, of the share of their samples classified correctly.

        balanced accuracy = mean over c with n_c > 0 of (hits_c / n_c)

    with `hits_c` and `n_c` summed over all batches (with `sample_weight`: weighted).
    On a balanced test set this is the plain accuracy; on a long-tailed one a
    model that knows only the head cannot score high. It is scikit-learn's
    `balanced_accuracy_score`. One minus it is the balanced error.

    Args:
        num_classes: Number of classes C, at least 2. `None` reads it from the
            first predictions.
        from_logits: False if the predictions of one logit or several labels are probabilities, so
            that the second class is predicted above 0.5 and not above 0. Softmax outputs need not
            say.
        multi_label: True for several labels per sample: the recalls of both sides of each label,
            positives and negatives, are averaged over the labels.
        ignore_class: Class index whose rows do not count.
        name: Name of the metric.
        dtype: Of the result. Counting is done in float32.

    Before any sample the result is 0, as with Keras's own metrics. A label that is
    not a class raises a `ValueError`, or makes the result NaN where compiled code
    cannot raise.

    Example:

    >>> metric = keras_lpl.metrics.BalancedAccuracy()
    >>> metric.update_state([0, 0, 0, 1], [[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    >>> print(round(float(metric.result()), 4))  # (2/3 + 1/1) / 2
    0.8333

    With `compile`:

    ```python
    model.compile(loss=keras_lpl.LPLLoss(), metrics=[keras_lpl.metrics.BalancedAccuracy()])
    ```
    """

    def __init__(
        self,
        num_classes: int | None = None,
        name: str | None = "balanced_accuracy",
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(num_classes, name, dtype, from_logits, multi_label, ignore_class)

    def result(self) -> Tensor:
        """Balanced accuracy of the samples since the last reset."""
        if self._shape is None:
            return ops.zeros((), dtype=self.dtype)
        recall, seen = self._recall()
        mean = ops.sum(recall * seen) / ops.maximum(ops.sum(seen), 1.0)
        return ops.cast(mean, self.dtype)
