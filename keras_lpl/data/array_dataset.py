"""Arrays as a Keras data set that shuffles, resamples and disturbs labels anew in each epoch.

NumPy alone: for every backend, and where TensorFlow is not installed.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._arrays import check_arrays
from keras_lpl.data._reading import reading_of
from keras_lpl.data.sampling import PAIRED, EpochDraws


class ArrayDataset(keras.utils.PyDataset):
    """Batches `(x, y)` of arrays for `fit`, drawn anew in each epoch, on any backend.

    An epoch has as many samples as the arrays. Which, in what order, and with
    which labels depends on `(seed, epoch)` alone: not on the backend, not on the
    order in which batches are asked for, and not on any global random state. With
    the same arguments, `pipeline` shows the same samples with the same labels.

    Pass `shuffle=False` to `fit`, whose own shuffling would change the order of
    the batches by Python's global random state.

    **Resuming.** The data set follows the epochs of `fit`. A run that
    `keras.callbacks.BackupAndRestore` or `initial_epoch` continues is shown what
    an uninterrupted one would have been shown, with no argument here; with
    `steps_per_epoch`, too, if that divides the number of batches. A second `fit`
    goes on where the first one ended. `evaluate` and `predict` show the current
    epoch and do not count as one.

    **A training loop of your own** iterates over the data set, then calls
    `on_epoch_end()`: the epoch is over if all its batches have been taken.

    `x` is not copied. A batch is one NumPy indexing, so Keras's `workers` and
    `use_multiprocessing` are not used, even if they are set.

    Args:
        x: Inputs of shape `(N, ...)`, rank 2 or more, of any numeric type.
        y: Labels of shape `(N,)`, `(N, 1)` or `(N, C)`, or other targets of N rows,
            passed on in their form.
        batch_size: Samples per batch. The last batch of an epoch has what is left.
        seed: Integer from 0 to 2**32 - 1.
        sampling: How often each class is drawn, with replacement:
            `"class_balanced"`, `"reversed"` or `"instance"`, see
            `class_probabilities`. `None` shows every sample once. `"paired"` does
            so too, and adds to each batch as many samples that the reversed
            sampler draws: rows `[:n]` and `[n:]` of a batch, for
            `keras_lpl.models.BBNModel`.
        disturb_rate: Probability that a label is redrawn uniformly over all
            classes, see `disturb_labels`. The classes are the columns of one-hot
            labels, and 0 to the largest of integer ones.
        shuffle: If True, every epoch has an order of its own. `False` shows the
            samples as they come, and does not go with `sampling`.
        initial_epoch: Number of the first epoch, to go on with a training loop of your
            own as if it had not been interrupted. `fit` needs none; if its first
            epoch has a higher number, that one counts.

    Attributes:
        epoch: Number of the current epoch. It can be set.
        is_paired: Whether its batches are pairs.

    Raises:
        ValueError: If an argument is out of range, `x` and `y` do not match, or `y`
            are no class labels where `sampling` or `disturb_rate` needs them.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import ArrayDataset
    >>> x, y = np.zeros((1000, 4), "float32"), np.repeat([0, 1], [950, 50])
    >>> train = ArrayDataset(x, y, batch_size=100, sampling="class_balanced")
    >>> len(train)
    10
    >>> np.bincount(np.concatenate([y_batch for _, y_batch in train]))
    array([496, 504])

    It goes to `fit` in place of the arrays:

    ```python
    model.fit(train, epochs=10, shuffle=False)
    ```

    The same script, started again after an interruption, comes to the same weights:

    ```python
    backup = keras.callbacks.BackupAndRestore("backup")
    model.fit(train, epochs=10, shuffle=False, callbacks=[backup])
    ```
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        seed: int = 0,
        *,
        sampling: str | None = None,
        disturb_rate: float = 0.0,
        shuffle: bool = True,
        initial_epoch: int = 0,
    ) -> None:
        super().__init__()
        self._x, y = check_arrays(x, y)
        self._batch_size = checks.integer(batch_size, "batch_size", minimum=1)
        if sampling not in (None, PAIRED) and not shuffle:
            raise ValueError(
                "`shuffle=False` keeps the order of the data, and a sampler draws in random order. "
                f"Leave one of them out. Received: shuffle={shuffle!r}, sampling={sampling!r}"
            )
        self.is_paired = sampling == PAIRED
        self._draws = EpochDraws(y, sampling, disturb_rate, seed, shuffle, self._batch_size)
        self._drawn: dict[int, Any] = {}  # by epoch: samples and places of labels
        self._is_open = False  # a loop of one's own, between two calls of Keras's hooks
        self._taken: set[int] = set()
        # The first epoch that `fit` trains, and the batch it begins with.
        self._fit: tuple[int, int] | None = None
        self._first_of_fit = 0
        self.epoch = checks.integer(initial_epoch, "initial_epoch", minimum=0)

    @property
    def epoch(self) -> int:
        """Number of the current epoch."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._begin(checks.integer(value, "epoch", minimum=0))
        self._is_new = True  # no epoch has been shown since

    @property
    def workers(self) -> int:
        """Always 1: a batch is one NumPy indexing."""
        return 1

    @workers.setter
    def workers(self, value: int) -> None:
        pass

    @property
    def use_multiprocessing(self) -> bool:
        """Always `False`: a batch is one NumPy indexing."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        pass

    def __len__(self) -> int:
        return -(-len(self._x) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index = range(len(self))[index]
        epoch, batch = divmod(self._start + index, len(self))
        samples, places = self._of_epoch(epoch)
        # After the epoch is read, which ends when the last batch is added. On TensorFlow, batches
        # are taken ahead from a thread, even after `on_epoch_end` if the pass goes on.
        if self._is_open or self._taken:
            self._taken.add(index)
        size = self._draws.batch_size
        part = slice(batch * size, (batch + 1) * size)
        return self._x[samples[part]], self._draws.labels[places[part]]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.on_epoch_begin()
        return (self[batch] for batch in range(len(self)))  # `PyDataset` has none before Keras 3.11

    def on_epoch_begin(self) -> None:
        reading = reading_of(self)
        if reading is None:
            self._is_open = True
            if not self._taken:
                self._begin(self._epoch)
        elif reading.epoch is not None:
            if self._fit is None:
                self._fit = reading.epoch, self._position(reading)
            self._follow(reading, reading.epoch)

    def on_epoch_end(self) -> None:
        reading = reading_of(self)
        if reading is None:
            self._count()
        elif reading.epoch is not None:
            self._follow(reading, reading.epoch + 1)
        elif reading.method == "fit":
            # It calls this before training, too, when its argument is still what it was.
            self._fit, self._first_of_fit = None, reading.initial_epoch
            self._taken.clear()
            self._is_open = False

    def _position(self, reading):
        """The batch that `fit` begins with, counted from the first one of epoch 0 on."""
        own = self._epoch * len(self)
        # Epochs that `fit` leaves out because an interrupted run has had them. If this data set was
        # used before, its own epochs lie before those; if not, they may be the ones left out.
        first = reading.epoch if self._is_new else min(self._first_of_fit, reading.epoch)
        if own < _batches_of(first, reading.steps, len(self))[1]:
            return _batches_of(reading.epoch, reading.steps, len(self))[1]
        return own + _batches_of(reading.epoch - first, reading.steps, len(self))[1]

    def _follow(self, reading, epoch):
        """Lets the next batches be those of an epoch of `fit`."""
        assert self._fit is not None, "`on_epoch_begin` comes first"
        first, position = self._fit
        passed, taken = _batches_of(epoch - first, reading.steps, len(self))
        self._start = position + passed
        self._epoch = (position + taken) // len(self)
        self._is_new = False

    def _count(self):
        is_over = self._is_open and len(self._taken) == len(self)
        if is_over:
            self._begin(self._epoch + 1)
            self._is_new = False
        if is_over or not self._is_open:
            self._taken.clear()
        self._is_open = False

    def _begin(self, epoch):
        """Lets the next batches be those of `epoch`."""
        self._epoch = epoch
        self._start = epoch * len(self)  # what index 0 stands for, counted from epoch 0 on

    def _of_epoch(self, epoch):
        # A single assignment: threads may draw the same twice, and never see half of it.
        if epoch not in (drawn := self._drawn):
            samples, places, _ = self._draws(epoch)
            # A pass that a resumed `fit` begins in the middle of an epoch ends in the next one.
            kept = {other: drawn[other] for other in drawn if abs(other - epoch) == 1}
            self._drawn = drawn = {**kept, epoch: (samples, places)}
        return drawn[epoch]


def _batches_of(epochs, steps, num_batches):
    """The batches in whole passes of some epochs of `fit`, and in all of them.

    With `steps_per_epoch`, a pass over the data takes several epochs, of which the last may be a
    short one: Keras does not take batches of two passes in one epoch.
    """
    steps = min(steps or num_batches, num_batches)
    passes, rest = divmod(epochs, -(-num_batches // steps))
    return passes * num_batches, passes * num_batches + rest * steps
