"""Tells a model how much of `fit` is done, for schedules that move inside compiled code."""

from typing import Any

import keras

from keras_lpl.core.statistics import TrainingProgress


class ProgressCallback(keras.callbacks.Callback):
    """Sets the model's `TrainingProgress` at the start of each epoch.

    The epoch says where training is, so that a run resumed with `initial_epoch` goes on where it
    stopped. Between epochs the model counts for itself, if the number of steps is known.
    """

    def __init__(self, progress: TrainingProgress) -> None:
        super().__init__()
        self.progress = progress

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        if epochs:
            self.progress.value.assign(min(epoch / epochs, 1.0))
            self.progress.per_step.assign(1.0 / (epochs * steps) if steps else 0.0)
