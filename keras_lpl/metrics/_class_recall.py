"""The state that the metrics here share: hits and samples of each class."""

import math

import keras
from keras import ops

from keras_lpl.core import checks


class ClassRecall(keras.metrics.Metric):
    """Weighs, for each class, the samples seen and those predicted correctly.

    A subclass says in `result` what becomes of `_recall()`. With
    `num_classes=None`, the variables are made when the first predictions show the
    number of classes; Keras then shows some before it compiles anything.
    """

    def __init__(self, num_classes=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._classes = None
        if num_classes is not None:
            self._build(num_classes)

    def _build(self, classes):
        # float32 whatever the policy: float16 cannot count beyond 2,048.
        shape = (classes,)
        self._hits = self.add_variable(shape, "zeros", dtype="float32", name="hits")
        self._samples = self.add_variable(shape, "zeros", dtype="float32", name="samples")
        self._classes = classes

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class indices `(B,)` or `(B, 1)`, or one-hot or soft labels
                `(B, C)`, of which the largest share counts.
            y_pred: Logits or probabilities `(B, C)`.
            sample_weight: `(B,)`, `(B, 1)` or a scalar.

        Raises:
            ValueError: If shapes do not fit, or a label is seen not to be a class.
                In compiled code, where it cannot be seen, such a label makes the
                metric NaN until the next reset, unless its weight is 0.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        classes = checks.num_classes(y_pred)
        if self._classes is None:
            self._build(classes)
        elif classes != self._classes:
            raise ValueError(
                f"Metric {self.name!r} counts {self._classes} classes, and the predictions must "
                f"have one column for each. Received: predictions of {classes} classes"
            )
        labels = checks.labels(y_true, y_pred)
        if len(labels.shape) == 2:
            labels = ops.argmax(labels, axis=-1)
        labels = ops.cast(labels, "int32")

        weight = ops.ones_like(labels, dtype="float32")
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype="float32")
            if len(sample_weight.shape):
                sample_weight = ops.reshape(sample_weight, (-1,))
            weight = weight * sample_weight
        bad = ops.logical_and(labels == checks.NO_CLASS, weight != 0)
        weight = ops.where(bad, math.nan, weight)
        labels = ops.maximum(labels, 0)

        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        hit = ops.cast(predicted == labels, "float32")
        # Not a segment sum: Keras builds metrics on shapes alone, where PyTorch has none.
        samples = weight[:, None] * ops.one_hot(labels, classes, dtype="float32")
        self._hits.assign(self._hits + ops.sum(hit[:, None] * samples, axis=0))
        self._samples.assign(self._samples + ops.sum(samples, axis=0))

    def _recall(self):
        """Returns `(recall, seen)`, both `(C,)`; both are 0 for a class not seen."""
        samples = ops.convert_to_tensor(self._samples)
        seen = ops.cast(samples != 0, "float32")
        return self._hits / ops.where(samples != 0, samples, 1.0), seen
