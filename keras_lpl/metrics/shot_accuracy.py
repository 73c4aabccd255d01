"""Accuracy over the classes with many, a medium number of, or few training samples."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.metrics._class_recall import ClassRecall

SHOTS = ("many", "medium", "few")


@register
class ShotAccuracy(ClassRecall):
    """Mean recall of the classes of one group, by their number of training samples.

    With the usual limits of long-tailed recognition (Liu et al., "Large-Scale
    Long-Tailed Recognition in an Open World", CVPR 2019):

        "many"      more than 100 training samples
        "medium"    20 to 100
        "few"       fewer than 20

    The result is the mean over the group's classes of hits_c / n_c, n_c the
    evaluated samples of class c. On a balanced test set, as the literature uses,
    that is the accuracy over the group's test samples.

    Args:
        class_counts: Training samples of each class, shape `(C,)`, in the order of
            the class indices; for one logit negatives and positives, for several labels
            `(labels, 2)`. 0 is allowed here: such a class is among the few.
        shot: `"many"`, `"medium"` or `"few"`.
        many: Largest count of the medium group.
        few: Smallest count of the medium group, at most `many`.
        from_logits: False if the predictions of one logit or several labels are probabilities, so
            that the second class is predicted above 0.5 and not above 0. Softmax outputs need not
            say.
        multi_label: True for several labels per sample: the recalls of both sides of each label,
            positives and negatives, are averaged over the labels.
        ignore_class: Class index whose rows do not count.
        name: Name of the metric. Defaults to `"many_shot_accuracy"` and so on.
        dtype: Of the result. Counting is done in float32.

    The result is NaN, not 0, where there is nothing to average: when no class falls
    into the group (CIFAR-10-LT at imbalance factor 100 has no "few"), so that one
    list of metrics serves all data sets, and until a sample of the group has been
    evaluated. A label that is not a class raises a `ValueError`, or makes
    the result NaN where compiled code cannot raise.

    Example:

    >>> metric = keras_lpl.metrics.ShotAccuracy([500, 50, 5], "few")
    >>> metric.update_state([0, 2, 2], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> print(float(metric.result()))
    0.5

    With `compile`:

    ```python
    counts = keras_lpl.data.class_counts(y_train)
    groups = [keras_lpl.metrics.ShotAccuracy(counts, shot) for shot in ("many", "medium", "few")]
    model.compile(loss=keras_lpl.LPLLoss(class_counts=counts), metrics=groups)
    ```
    """

    def __init__(
        self,
        class_counts: Counts,
        shot: str,
        many: float = 100,
        few: float = 20,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
    ) -> None:
        self.shot = checks.one_of(shot, "shot", SHOTS)
        self.many = checks.number(many, "many", minimum=0)
        self.few = checks.number(few, "few", minimum=0)
        if self.few > self.many:
            raise ValueError(f"`few` must not exceed `many`. Received: few={few!r}, many={many!r}")
        # Python numbers, so that the configuration is JSON.
        self.class_counts = checks.class_counts(class_counts, allow_zero=True)
        super().__init__(
            np.shape(self.class_counts),
            from_logits,
            multi_label,
            ignore_class,
            name=name or f"{self.shot}_shot_accuracy",
            dtype=dtype,
        )

    @property
    def classes(self) -> list[Any]:
        """Indices of the classes of the group; pairs of label and side for several labels."""
        found = np.argwhere(self._in_group()).tolist()
        return [each[0] if len(each) == 1 else tuple(each) for each in found]

    def _in_group(self):
        counts = np.asarray(self.class_counts)
        return {
            "many": counts > self.many,
            "medium": (self.few <= counts) & (counts <= self.many),
            "few": counts < self.few,
        }[self.shot]

    def result(self) -> Tensor:
        """Mean recall of the group since the last reset."""
        recall, seen = self._recall()
        seen = seen * ops.convert_to_tensor(self._in_group(), dtype="float32")
        classes = ops.sum(seen)
        mean = ops.sum(recall * seen) / ops.maximum(classes, 1.0)
        return ops.cast(ops.where(classes > 0, mean, math.nan), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        return {
            **super().get_config(),
            "class_counts": checks.as_config(self.class_counts),
            "shot": self.shot,
            "many": self.many,
            "few": self.few,
        }
