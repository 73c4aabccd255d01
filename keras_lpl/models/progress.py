"""How much of training is done: `t / T`, for schedules that move inside compiled code."""

import keras
from keras import ops

from keras_lpl.layers.running_statistics import RunningStatistic


class TrainingProgress(RunningStatistic):
    """A scalar that goes from 0 to 1 over `fit`, one step at a time.

    It is state of the model: saved and restored with it, and changed without compiling again. The
    first step of training is at progress 0.
    """

    updates_after_loss = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.value = self.add_statistic("value", ())
        self.per_step = self.add_statistic("per_step", ())

    def update(self, labels, logits, features=None, sample_weight=None):
        """Counts one step."""
        self.value.assign(ops.minimum(self.value + self.per_step, 1.0))


class ProgressCallback(keras.callbacks.Callback):
    """Tells the model's `TrainingProgress` at each epoch where `fit` is.

    The epoch says where training is, so that a run resumed with `initial_epoch` goes on where it
    stopped. Between epochs the model counts for itself, if the number of steps is known.
    """

    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def on_epoch_begin(self, epoch, logs=None):
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        if epochs:
            self.progress.value.assign(min(epoch / epochs, 1.0))
            self.progress.per_step.assign(1.0 / (epochs * steps) if steps else 0.0)
