"""Balanced accuracy: the mean of the classes' recalls."""

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl.metrics._class_recall import ClassRecall


@keras.saving.register_keras_serializable("keras_lpl")
class BalancedAccuracy(ClassRecall):
    """Mean, over the classes that occur, of the share of their samples classified correctly.

        balanced accuracy = mean over c with n_c > 0 of (hits_c / n_c)

    with `hits_c` and `n_c` summed over all batches (with `sample_weight`: weighed).
    On a balanced test set this is the plain accuracy; on a long-tailed one a
    model that knows only the head cannot score high. It is scikit-learn's
    `balanced_accuracy_score`. One minus it is the balanced error.

    Args:
        num_classes: Number of classes C, at least 2. `None` reads it from the
            first predictions.
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

    def __init__(self, num_classes=None, name="balanced_accuracy", dtype=None):
        if num_classes is not None:
            num_classes = checks.number(num_classes, "num_classes", minimum=2)
            if num_classes != int(num_classes):
                raise ValueError(
                    f"`num_classes` must be an integer. Received: num_classes={num_classes}"
                )
            num_classes = int(num_classes)
        self.num_classes = num_classes
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        """Returns the balanced accuracy of the samples since the last reset."""
        if self._classes is None:
            return ops.zeros((), dtype=self.dtype)
        recall, seen = self._recall()
        mean = ops.sum(recall * seen) / ops.maximum(ops.sum(seen), 1.0)
        return ops.cast(mean, self.dtype)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_classes": self.num_classes}
