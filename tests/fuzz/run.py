"""Runs cases of the fuzz: finite in, finite out, or a `ValueError` that says what was received."""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
from keras import ops

from keras_lpl import engines
from tests.fuzz.cases import Batch, Setting


def run_setting(
    number: int, draws: int, compiled: bool = False, seed: int = 0
) -> Iterator[tuple[str, str, list[float]]]:
    """Runs several batches of a setting.

    Args:
        number: Which setting.
        draws: How many batches.
        compiled: Compile the loss with its gradient, once for all batches, none of which is wrong.
        seed: Seed of the settings.

    Yields:
        `(name, fault, [loss, gradient])` for each: `fault` is empty if all is well; the loss is
        summed, the gradient by its absolute values. A call that was rightly refused has no numbers.
    """
    setting = Setting(number, seed)
    fast = None
    for draw in range(draws):
        batch = setting.batch(draw, may_be_wrong=not compiled)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if fast is None:
                    function = _Function(setting, batch)
                    fast = function.compiled() if compiled else function.eager
                numbers = [float(x) for x in fast(batch)]
        except Exception as error:
            fault, numbers = _fault_of_error(batch, error), []
        else:
            fault = _fault_of_numbers(batch, numbers)
        yield f"{setting.seed}-{number}-{draw}", fault and f"{setting}: {fault}", numbers


def _fault_of_error(batch, error):
    if batch.mistake is None:
        return f"raised {error!r}"
    if not isinstance(error, ValueError) or "Received: " not in str(error):
        return f"{batch.mistake!r} raised {error!r}"
    return ""


def _fault_of_numbers(batch, numbers):
    if batch.mistake is not None:
        return f"{batch.mistake!r} was accepted"
    return "" if np.all(np.isfinite(numbers)) else f"not finite: {numbers}"


class _Function:
    """Loss and gradient of batches of one setting."""

    def __init__(self, setting: Setting, batch: Batch) -> None:
        self.setting = setting
        self.loss = setting.loss()
        self.parts = [batch.logits, batch.y_true, batch.sample_weight]

    def eager(self, batch: Batch) -> tuple[float, float]:
        """Value and gradient, with labels and weights as a user gives them."""
        loss = self.setting.loss(wrong_counts=True) if batch.mistake == "counts" else self.loss

        def total(x):
            x = ops.cast(x, self.setting.logits_dtype)
            return _summed(loss(batch.y_true, x, batch.sample_weight))

        value, gradient = engines.value_and_gradient(total, batch.logits)
        return value, np.abs(gradient).sum(dtype="float64")

    def compiled(self):
        """The same, compiled, of arguments that come as one array."""
        shapes = [None if part is None else np.shape(part) for part in self.parts]
        dtypes = [None if part is None else np.asarray(part).dtype.name for part in self.parts]
        sizes = [0 if shape is None else int(np.prod(shape)) for shape in shapes]
        ends = list(itertools.accumulate(sizes))
        dtypes[0] = self.setting.logits_dtype

        def total(flat):
            pieces = ops.split(flat, ends[:-1])
            x, y, w = (
                None if shape is None else ops.cast(ops.reshape(piece, shape), dtype)
                for piece, shape, dtype in zip(pieces, shapes, dtypes, strict=True)
            )
            y, w = (None if part is None else ops.stop_gradient(part) for part in (y, w))
            return _summed(self.loss(y, x, w))

        fast = engines.compiled_value_and_gradient(total)

        def call(batch):
            parts = [batch.logits, batch.y_true, batch.sample_weight]
            flat = [np.ravel(part) for part in parts if part is not None]
            value, gradient = fast(np.concatenate(flat).astype("float32"))
            return value, np.abs(gradient[: ends[0]]).sum(dtype="float64")

        return call


def _summed(losses):
    return ops.sum(ops.cast(losses, "float32"))
