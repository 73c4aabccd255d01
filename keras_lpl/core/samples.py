"""`Samples`: one batch, as every loss, perturbation and statistic sees it.

A model's output may be one label per sample, per pixel or per token, one logit for two classes, or
several labels at once. `Samples` brings all of them to rows of logits, one row for each softmax.
`read_output` in `keras_lpl.core.outputs` makes it, once per step; below it nobody asks for a rank.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core.numerics import mean_of_sum
from keras_lpl.core.typing import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Rows of logits with their labels.

    Several labels per sample are several *problems* of two classes: label `l` of a sample is a row
    of problem `l`. What a method keeps for each class then has the shape `(problems, classes)`,
    otherwise `(classes,)`.

    Attributes:
        logits: `(rows, classes)`, float32 or float64, finite: rows that were not are zeros.
        labels: Integers `(rows,)`, or soft `(rows, classes)`. The methods below know both.
        weight: `(rows,)`, at least 0. Rows of weight 0 take no part in any class mean: those that
            are masked, ignored or weighted 0, and those whose label is no class or whose logits,
            features or weight are not finite.
        shape: Leading shape of the model's output, `(batch, ...)`, in which the losses of the rows
            are given back.
        is_bad: bool `(rows,)`, rows whose loss is NaN: their label is no class, or their logits,
            features or weight are not finite. Numbers of 1e30 count as infinite, features of 1e15,
            whose squares are summed up. None if it is known that no row is.
        is_counted: bool `(rows,)`, False for masked and ignored rows; None if there are none.
        problem: Integers `(rows,)`, the problem that a row belongs to; None if there is only one.
        num_problems: Number of problems, or None if there is only one.
        features: `(rows, features)`, the input of the model's last layer; None if nobody asked for
            it. Gradients flow.
    """

    logits: Tensor
    labels: Tensor
    weight: Tensor
    shape: tuple[Any, ...]
    is_bad: Tensor | None
    is_counted: Tensor | None = None
    problem: Tensor | None = None
    num_problems: int | None = None
    features: Tensor = None

    # --- What a row is ------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.logits.shape[-1]

    @property
    def has_soft_labels(self) -> bool:
        """True for one-hot and soft labels, False for class indices."""
        return len(self.labels.shape) == 2

    @property
    def membership(self) -> Tensor:
        """Share of each class in a row, `(rows, classes)`: one-hot, or the soft labels."""
        if self.has_soft_labels:
            return self.labels
        # Keras's `one_hot` looks at the values on PyTorch, and the device has to wait.
        return ops.cast(self.is_own_class, self.logits.dtype)

    @property
    def is_own_class(self) -> Tensor:
        """True in the column of each row's class, bool `(rows, classes)`; of class indices only."""
        columns = ops.arange(self.num_classes, dtype=engines.INDEX_DTYPE)
        return ops.equal(self.labels[:, None], columns)

    @property
    def shape_by_class(self) -> tuple[int, ...]:
        """Shape of one number for each class: `(classes,)`, or `(problems, classes)`."""
        if self.num_problems is None:
            return (self.num_classes,)
        return (self.num_problems, self.num_classes)

    @property
    def group(self) -> Tensor:
        """Index of a row's class among the classes of all problems, integers `(rows,)`.

        Of class indices only: a soft label has no single class.
        """
        if self.problem is None:
            return self.labels
        return self.problem * self.num_classes + self.labels

    def replace(self, **changes: Any) -> "Samples":
        """Copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def detached(self) -> "Samples":
        """Copy that no gradient flows through, in float32, for running statistics."""
        is_single = keras.backend.standardize_dtype(self.logits.dtype) == "float32"

        def detach(x):
            if x is None:
                return None
            return ops.stop_gradient(x if is_single else ops.cast(x, "float32"))

        return self.replace(
            logits=detach(self.logits),
            weight=detach(self.weight),
            features=detach(self.features),
            labels=detach(self.labels) if self.has_soft_labels else self.labels,
        )

    # --- From classes to rows -----------------------------------------------------------------

    def of_own_class(self, x: Tensor) -> Tensor:
        """Entry of each row's own class; of a soft label, the mean over its classes.

        Args:
            x: `(classes, ...)`, or `(problems, classes, ...)`.

        Returns:
            `(rows, ...)`.
        """
        x = self._by_class(x)
        if not self.has_soft_labels:
            if self.problem is not None:
                x = ops.reshape(x, (-1, *x.shape[2:]))
            return engines.take_rows(x, self.group)
        if self.problem is None:
            return ops.matmul(self.labels, x)
        x = engines.take_rows(x, self.problem)
        labels = ops.reshape(self.labels, (-1, self.num_classes, *(1 for _ in x.shape[2:])))
        return ops.sum(labels * x, axis=1)

    def of_classes(self, x: Tensor) -> Tensor:
        """Entries of all classes, in a shape that broadcasts against the logits.

        Args:
            x: `(classes,)`, or `(problems, classes)`.

        Returns:
            `(1, classes)`, or `(rows, classes)`.
        """
        x = self._by_class(x)
        return x[None] if self.problem is None else engines.take_rows(x, self.problem)

    def _by_class(self, x):
        """`x` in the precision of the logits, with one entry for each class of each problem."""
        dtype = self.logits.dtype
        if isinstance(x, np.ndarray):
            x = engines.constant(x, self.logits)
        else:
            x = ops.cast(ops.convert_to_tensor(x), dtype)
        if self.num_problems is not None and tuple(x.shape[:2]) != self.shape_by_class:
            x = ops.broadcast_to(x, self.shape_by_class)
        return x

    # --- From rows to classes -----------------------------------------------------------------

    def sum_by_class(self, x: Tensor) -> Tensor:
        """Weighted sum over the rows of each class, `sum_i w_i y_ic x_i`.

        Args:
            x: `(rows,)` or `(rows, columns)`.

        Returns:
            `(classes,)` or `(classes, columns)`; with several problems, one of them for each.
        """
        is_flat = len(x.shape) == 1
        x = ops.reshape(x, (-1, 1)) if is_flat else x
        if not self.has_soft_labels:
            total = self.sum_of_rows(ops.cast(self.weight, x.dtype)[:, None] * x)
            return total[..., 0] if is_flat else total
        total = self._sum_of_soft(x)
        columns = () if is_flat else (x.shape[-1],)
        return ops.reshape(total, (*self.shape_by_class, *columns))

    def sum_of_rows(self, x: Tensor) -> Tensor:
        """Sum over the rows of each class as they are, without weights; of class indices only.

        Args:
            x: `(rows, columns)`.

        Returns:
            `(classes, columns)`; with several problems, one of them for each.
        """
        total = engines.sum_of_groups(x, self.group, math.prod(self.shape_by_class))
        if self.num_problems is None:
            return total
        return ops.reshape(total, (*self.shape_by_class, x.shape[-1]))

    def _sum_of_soft(self, x):
        member = ops.cast(self.labels * self.weight[:, None], x.dtype)
        if self.problem is None:
            return ops.matmul(ops.transpose(member), x)
        # Rows lie sample by sample, and in each sample problem by problem.
        member = ops.reshape(member, (-1, *self.shape_by_class))
        x = ops.reshape(x, (-1, self.num_problems, x.shape[-1]))
        return ops.einsum("npc,npk->pck", member, x)

    def weight_by_class(self) -> Tensor:
        """Total weight of each class, `(classes,)` or `(problems, classes)`."""
        return self.sum_by_class(ops.ones_like(self.weight))

    def mean_by_class(self, x: Tensor) -> Tensor:
        """Weighted mean over the rows of each class, in the shape of `sum_by_class`.

        0 for a class without rows.
        """
        is_flat = len(x.shape) == 1
        x = ops.reshape(x, (-1, 1)) if is_flat else x
        both = ops.concatenate([x, ops.ones_like(x[:, :1])], axis=-1)
        total = self.sum_by_class(both)
        mean = mean_of_sum(total[..., :-1], total[..., -1:])
        return mean[..., 0] if is_flat else mean

    def replace_bad(self, x: Tensor, value: float) -> Tensor:
        """`x` with a value in place of the bad rows, `(rows,)` or `(rows, columns)`."""
        if self.is_bad is None:
            return x
        return ops.where(self.is_bad if len(x.shape) == 1 else self.is_bad[:, None], value, x)

    # --- Back to the model's output -----------------------------------------------------------

    def to_output(self, losses: Tensor) -> Tensor:
        """Losses of the rows `(rows,)` in the leading shape of the output.

        NaN for bad rows and 0 for rows that take no part. Several labels of a sample are averaged.
        """
        losses = self.replace_bad(losses, math.nan)
        if self.is_counted is not None:
            losses = ops.where(self.is_counted, losses, 0.0)
        if self.num_problems is None:
            return losses if len(self.shape) == 1 else ops.reshape(losses, self.shape)
        losses = ops.reshape(losses, (*self.shape, self.num_problems))
        if self.is_counted is None:
            return ops.mean(losses, axis=-1)
        counted = ops.reshape(self.is_counted, (*self.shape, self.num_problems))
        counted = ops.sum(ops.cast(counted, losses.dtype), axis=-1)
        return ops.sum(losses, axis=-1) / ops.maximum(counted, 1.0)

    def counted_in_output(self) -> Tensor | None:
        """Mask of the losses that count, in the leading shape of the output; None if all do."""
        if self.is_counted is None:
            return None
        counted = self.is_counted
        if self.num_problems is not None:
            counted = ops.any(ops.reshape(counted, (-1, self.num_problems)), axis=-1)
        return ops.reshape(counted, self.shape)
