"""Tells a model how much of `fit` is done, for schedules that move inside compiled code."""

import warnings
from typing import Any

import keras

from keras_lpl.core.statistics import TrainingProgress


class ProgressCallback(keras.callbacks.Callback):
    """Sets the model's `TrainingProgress` at the start of each epoch.

    The epoch says where training is, so that a run resumed with `initial_epoch` goes on where it
    stopped. Between epochs the model counts for itself. The steps of a generator of unknown length
    are counted in the first epoch, which stays at its start.
    """

    def __init__(self, progress: TrainingProgress) -> None:
        super().__init__()
        self.progress = progress
        self._counted = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.params.get("epochs") == 1 and not self.params.get("steps"):
            warnings.warn(
                "A loss of this model follows a schedule over training, and the length of the data "
                "is not known: in a single epoch the schedule stays at its start. Pass "
                "`steps_per_epoch` to `fit`, or call `model.set_progress(share)` in a callback.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        epochs, steps = self.params.get("epochs"), self.params.get("steps") or self._counted
        self._counted = 0
        if epochs:
            self.progress.value.assign(min(epoch / epochs, 1.0))
            self.progress.per_step.assign(1.0 / (epochs * steps) if steps else 0.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._counted = batch + 1
