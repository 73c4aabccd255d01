"""Hits and samples of each class: the state that the metrics here share."""

import math
from typing import Any

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.outputs import form_of, read_output
from keras_lpl.core.typing import Tensor


class ClassRecall(keras.metrics.Metric):
    """Weight of the samples seen of each class, and of those predicted correctly.

    A subclass says in `result` what becomes of `_recall()`. Without a shape, the variables are made
    when the first predictions show the number of classes; Keras then shows some before it compiles
    anything.

    Attributes:
        of_predicted: True to count by the class predicted: the shares are then precisions.
    """

    of_predicted = False

    def __init__(
        self,
        shape: tuple[int, ...] | None = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.multi_label = multi_label
        self.ignore_class = ignore_class
        self._shape: tuple[int, ...] | None = None
        if shape is not None:
            self._build(shape)

    def _build(self, shape):
        # float32 whatever the policy: float16 cannot count beyond 2,048.
        self._hits = self.add_variable(shape, "zeros", dtype="float32", name="hits")
        self._samples = self.add_variable(shape, "zeros", dtype="float32", name="samples")
        self._shape = tuple(shape)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: Labels, as for the losses of this package: class indices, one-hot or soft labels
                (of which the largest share counts), 0 and 1 for one logit or several labels.
            y_pred: Logits or probabilities `(..., classes)`, `(..., 1)` or `(..., labels)`.
            sample_weight: `(batch,)` or the leading shape of the predictions, or a scalar.

        Raises:
            ValueError: If shapes do not fit, or a label is seen not to be a class. In compiled
                code, where it cannot be seen, such a label makes the metric NaN until the next
                reset, unless its weight is 0.
        """
        if not hasattr(y_pred, "shape"):
            y_pred = ops.convert_to_tensor(y_pred)
        form = form_of(y_pred.shape, self.multi_label)
        if self._shape is None:
            self._build(form.shape_by_class)
        if form.shape_by_class != self._shape:
            raise ValueError(
                f"Metric {self.name!r} counts {_of(self._shape)}, and the predictions must be of "
                f"as many. Received: predictions of {_of(form.shape_by_class)}"
            )
        samples = read_output(
            y_true,
            y_pred,
            sample_weight,
            multi_label=self.multi_label,
            ignore_class=self.ignore_class,
            # The order of the classes is the same for logits and probabilities.
            from_logits=self.from_logits or (form.units > 1 and not self.multi_label),
        )
        labels = samples.labels
        if samples.has_soft_labels:
            labels = ops.cast(ops.argmax(labels, axis=-1), "int32")
        predicted = ops.cast(ops.argmax(samples.logits, axis=-1), "int32")
        hit = ops.cast(ops.equal(predicted, labels), "float32")
        weight = samples.replace_bad(ops.cast(samples.weight, "float32"), math.nan)
        # Not a segment sum: Keras builds metrics on shapes alone, where PyTorch has none.
        counted = predicted if self.of_predicted else labels
        member = ops.one_hot(counted, samples.num_classes, dtype="float32") * weight[:, None]
        both = ops.stack([hit[:, None] * member, member])
        both = ops.sum(ops.reshape(both, (2, -1, *form.shape_by_class)), axis=1)
        self._hits.assign(self._hits + both[0])
        self._samples.assign(self._samples + both[1])

    def _recall(self):
        """`(recall, seen)`, one per class; both are 0 for a class not seen."""
        samples = ops.convert_to_tensor(self._samples)
        seen = ops.cast(samples != 0, "float32")
        return self._hits / ops.where(samples != 0, samples, 1.0), seen

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "multi_label": self.multi_label,
            "ignore_class": self.ignore_class,
        }


class OfAllClasses(ClassRecall):
    """Base class of metrics of all classes, whose number may be left out."""

    def __init__(
        self,
        num_classes: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        if num_classes is not None:
            num_classes = checks.integer(num_classes, "num_classes", minimum=2)
        self.num_classes = num_classes
        shape = None if num_classes is None or multi_label else (num_classes,)
        super().__init__(shape, from_logits, multi_label, ignore_class, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


def _of(shape):
    if len(shape) == 1:
        return f"{shape[0]} classes"
    return f"{shape[0]} labels"
