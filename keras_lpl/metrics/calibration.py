"""Expected calibration error: how far a model's confidence is from its accuracy."""

import math
from typing import Any

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.outputs import read_output
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor


@register
class ExpectedCalibrationError(keras.metrics.Metric):
    """Mean distance between confidence and accuracy, over bins of equal width.

        ECE = sum over bins b of n_b / n * |accuracy_b - confidence_b|

    with the largest probability of each sample as its confidence. Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, Eq. 3. 0.1 means that probabilities are off by ten points on
    average. Balanced data have another prior than long-tailed ones: a model can be calibrated for
    one of the two.

    Args:
        num_bins: Number of bins of the confidence, from 0 to 1.
        from_logits: False if the predictions are probabilities.
        multi_label: True for several labels per sample, each a prediction of its own.
        ignore_class: Class index whose rows do not count.
        name: Name of the metric.
        dtype: Of the result. Sums are kept in float32.

    Before any sample the result is 0.

    Raises:
        ValueError: for a label that is not a class (in compiled code: NaN).

    Example: three of four are right, at a confidence of 0.9.

    >>> metric = keras_lpl.metrics.ExpectedCalibrationError(from_logits=False)
    >>> metric.update_state([0, 0, 0, 1], [[0.9, 0.1]] * 4)
    >>> print(round(float(metric.result()), 4))
    0.15
    """

    def __init__(
        self,
        num_bins: int = 15,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        name: str | None = "expected_calibration_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_bins = checks.integer(num_bins, "num_bins", minimum=1)
        self.from_logits = checks.boolean(from_logits, "from_logits")
        self.multi_label = checks.boolean(multi_label, "multi_label")
        self.ignore_class = ignore_class
        # Of each bin: the weight, the hits, and the sum of the confidences.
        self._sums = self.add_variable((3, self.num_bins), "zeros", dtype="float32", name="sums")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Adds a batch, of labels and predictions as the losses of this package take them."""
        if not hasattr(y_pred, "shape"):
            y_pred = ops.convert_to_tensor(y_pred)
        if 0 in tuple(y_pred.shape):  # Keras takes no maximum of nothing
            return
        samples = read_output(
            y_true,
            y_pred,
            sample_weight,
            multi_label=self.multi_label,
            ignore_class=self.ignore_class,
            from_logits=self.from_logits,
        )
        labels = samples.labels
        if samples.has_soft_labels:
            labels = ops.cast(ops.argmax(labels, axis=-1), "int32")
        confidence = ops.max(ops.softmax(samples.logits, axis=-1), axis=-1)
        confidence = ops.cast(confidence, "float32")
        predicted = ops.cast(ops.argmax(samples.logits, axis=-1), "int32")
        hit = ops.cast(ops.equal(predicted, labels), "float32")
        weight = samples.replace_bad(ops.cast(samples.weight, "float32"), math.nan)
        place = ops.cast(ops.floor(confidence * self.num_bins), "int32")
        place = ops.clip(place, 0, self.num_bins - 1)  # 1 belongs to the last bin
        member = ops.one_hot(place, self.num_bins, dtype="float32") * weight[:, None]
        columns = ops.stack([ops.ones_like(hit), hit, confidence])
        self._sums.assign(self._sums + ops.matmul(columns, member))

    def result(self) -> Tensor:
        """Calibration error of the samples since the last reset."""
        sums = ops.convert_to_tensor(self._sums)
        off = ops.sum(ops.abs(sums[1] - sums[2]))
        total = ops.sum(sums[0])
        return ops.cast(off / ops.where(total != 0, total, 1.0), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "from_logits": self.from_logits,
            "multi_label": self.multi_label,
            "ignore_class": self.ignore_class,
        }
