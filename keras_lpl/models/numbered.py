"""Labels that come with the number of their sample, as `keras_lpl.data.numbered_labels` gives them.

Rows of `corrections` are read and written here: a number that no sample has is a bad row.
"""

from typing import Any

from keras import ops

from keras_lpl import engines
from keras_lpl.core.typing import Tensor

_HOW = "Pass `keras_lpl.data.numbered_labels(y)` in place of `y`"


def labels_and_numbers(y: Any, needs_numbers: bool = True) -> tuple[Any, Any]:
    """Splits labels into class indices `(batch,)` and numbers of samples `(batch,)`.

    Args:
        y: Integers `(batch, 2)`, or labels without numbers in any other form.
        needs_numbers: False where labels may come without; their numbers are None then.

    Raises:
        ValueError: for labels that come without numbers and need some, or for those of another
            kind of two integers, where values can be looked at. In compiled code these labels are
            -1, which is no class.
    """
    shape = tuple(getattr(y, "shape", ()))
    is_numbered = len(shape) == 2 and shape[-1] == 2 and "int" in str(getattr(y, "dtype", ""))
    values = engines.concrete(y) if is_numbered else None
    if values is not None and (values[:, 1] >= 0).any():
        raise ValueError(
            "The second column of numbered labels tells which sample it is, by -1, -2 and so on, "
            f"so that it is no one-hot label. {_HOW}; `evaluate` takes class indices, too. "
            f"Received: labels of shape {shape} that begin with {values[:3].tolist()}"
        )
    if is_numbered:
        return ops.where(y[:, 1] < 0, y[:, 0], -1), -1 - y[:, 1]
    if needs_numbers:
        received = f"labels of shape {shape}" if shape else f"labels of type {type(y).__name__}"
        dtype = f" and dtype {y.dtype}" if hasattr(y, "dtype") else ""
        raise ValueError(
            "The model's method keeps something of each training sample, so that labels are class "
            f"indices with the number of their sample, integers (batch, 2). {_HOW}. "
            f"Received: {received}{dtype}"
        )
    return y, None


class Rows:
    """The rows of `corrections` that belong to the samples of a batch.

    Attributes:
        values: `(batch, classes)`.
        are_bad: bool `(batch,)`, of numbers that no sample has.

    Raises:
        ValueError: for such a number, where code is not compiled.
    """

    def __init__(self, corrections: Any, numbers: Tensor) -> None:
        self.corrections = corrections
        self.spare = corrections.shape[0] - 1  # the row of samples that have none
        numbers = ops.cast(ops.convert_to_tensor(numbers), engines.INDEX_DTYPE)
        check_numbers(numbers, self.spare)
        self.are_bad = ops.logical_or(numbers < 0, numbers >= self.spare)
        self.numbers = ops.where(self.are_bad, self.spare, numbers)
        self.values = engines.take_rows(corrections, self.numbers)

    def assign(self, values: Tensor, are_kept: Tensor) -> None:
        """Writes rows `(batch, classes)`, of those samples that are kept, bool `(batch,)`."""
        are_kept = ops.logical_and(are_kept, ops.logical_not(self.are_bad))
        numbers = ops.where(are_kept, self.numbers, self.spare)
        values = ops.where(are_kept[:, None], ops.cast(values, self.values.dtype), 0.0)
        self.corrections.assign(
            ops.scatter_update(self.corrections.value, numbers[:, None], values)
        )


def check_numbers(numbers: Any, num_samples: int) -> None:
    """Raises `ValueError` for numbers that no sample has, if values can be looked at."""
    values = engines.concrete(numbers)
    if values is not None and values.size and not 0 <= values.min() <= values.max() < num_samples:
        raise ValueError(
            f"The method was made for {num_samples} training samples, and these labels have the "
            f"numbers of others. Give it `num_samples=`, the size of the training set. "
            f"Received: samples {values.min()} to {values.max()}, counted from 0"
        )
