"""Finds the method of a Keras model that reads a data set, and its epoch."""

import dataclasses
import inspect
from typing import Any

_METHODS = ("fit", "evaluate", "predict")


@dataclasses.dataclass(frozen=True)
class Reading:
    """Use of a data set by `fit`, `evaluate` or `predict`.

    Attributes:
        method: Name of the method.
        epoch: Number of `fit`'s epoch. `None` before the first begins, and of other methods.
        initial_epoch: Number of `fit`'s first epoch: its argument until training begins, and from
            then on what `keras.callbacks.BackupAndRestore` may have put in its place.
        steps: Batches that an epoch takes. `None` for all there are.
    """

    method: str
    epoch: int | None
    initial_epoch: int
    steps: int | None


def reading_of(dataset: Any) -> Reading | None:
    """Finds the innermost method of a Keras model that reads `dataset` right now.

    Keras tells a `PyDataset` that an epoch begins, and not which: the number is known to callbacks
    alone, and a data set cannot add one. It is read where it is, in the frame of `fit`. The names
    of its variables are Keras's own business; if they change, this returns `None`, and the tests
    of resumed runs fail.

    Returns:
        `None` outside of these methods, such as in a training loop of one's own.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in _METHODS:
            variables = frame.f_locals
            iterator = variables.get("epoch_iterator")
            adapter = getattr(iterator, "data_adapter", None)
            if getattr(adapter, "py_dataset", None) is dataset:
                is_fit = frame.f_code.co_name == "fit"
                return Reading(
                    method=frame.f_code.co_name,
                    epoch=variables.get("epoch") if is_fit else None,
                    initial_epoch=variables.get("initial_epoch", 0) if is_fit else 0,
                    steps=_steps(iterator),
                )
        frame = frame.f_back
    return None


def _steps(iterator):
    if not iterator.steps_per_epoch:
        return None
    # A compiled call takes several batches, even if that is more than was asked for.
    at_once = iterator.steps_per_execution
    return -(-iterator.steps_per_epoch // at_once) * at_once
