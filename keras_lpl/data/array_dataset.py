"""Arrays as a Keras data set that shuffles, resamples and disturbs labels anew in each epoch.

NumPy alone: for every backend, and where TensorFlow is not installed.
"""

import keras

from keras_lpl.core import checks
from keras_lpl.data._arrays import check_arrays
from keras_lpl.data.sampling import EpochDraws


class ArrayDataset(keras.utils.PyDataset):
    """Batches `(x, y)` of arrays for `fit`, drawn anew in each epoch, on any backend.

    An epoch has as many samples as the arrays. Which, in what order, and with
    which labels depends on `(seed, epoch)` alone: not on the backend, not on the
    order in which batches are asked for, and not on any global random state. With
    the same arguments, `pipeline` shows the same samples with the same labels.

    Pass `shuffle=False` to `fit`, whose own shuffling would change the order of
    the batches by Python's global random state.

    An epoch is over when all its batches have been taken and Keras has called
    `on_epoch_end`. So `evaluate` with this data set counts as an epoch, and the
    batch that `fit` takes to build a model does not (except where one or two
    batches are all there are). In a training loop of your own, iterate over the
    data set, then call `on_epoch_end()`.

    `x` is not copied, and no `workers` are taken: a batch is one NumPy
    indexing.

    Args:
        x: Inputs of shape `(N, ...)`, rank 2 or more, of any numeric type.
        y: Labels of shape `(N,)`, `(N, 1)` or `(N, C)`, passed on in their form.
        batch_size: Samples per batch. The last batch of an epoch has what is left.
        seed: Integer from 0 to 2**32 - 1.
        sampling: How often each class is drawn, with replacement:
            `"class_balanced"`, `"reversed"` or `"instance"`, see
            `class_probabilities`. `None` shows every sample once.
        disturb_rate: Probability that a label is redrawn uniformly over all
            classes, see `disturb_labels`. The classes are the columns of one-hot
            labels, and 0 to the largest of integer ones.
        shuffle: Whether every epoch has an order of its own. `False` shows the
            samples as they come, and does not go with `sampling`.
        initial_epoch: Number of the first epoch, to go on with a training run
            as if it had not been interrupted: the `initial_epoch` that `fit` is
            given.

    Attributes:
        epoch: Number of the current epoch.

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
    """

    def __init__(
        self,
        x,
        y,
        batch_size,
        seed=0,
        *,
        sampling=None,
        disturb_rate=0.0,
        shuffle=True,
        initial_epoch=0,
    ):
        super().__init__()
        self._x, y = check_arrays(x, y)
        self._batch_size = checks.integer(batch_size, "batch_size", minimum=1)
        if sampling is not None and not shuffle:
            raise ValueError(
                "`shuffle=False` keeps the order of the data, and a sampler draws in random order. "
                f"Leave one of them out. Received: shuffle={shuffle!r}, sampling={sampling!r}"
            )
        self._draws = EpochDraws(y, sampling, disturb_rate, seed, shuffle)
        self.epoch = checks.integer(initial_epoch, "initial_epoch", minimum=0)
        self._drawn = None  # number, samples and places of labels of one epoch
        self._is_open = False
        self._taken = set()

    def __len__(self):
        return -(-len(self._x) // self._batch_size)

    def __getitem__(self, index):
        start = range(0, len(self._x), self._batch_size)[index]
        samples, places = self._of_epoch(self.epoch)
        # After the epoch is read, which ends when the last batch is added. On TensorFlow, batches
        # are taken ahead from a thread, even after `on_epoch_end` if the pass goes on.
        if self._is_open or self._taken:
            self._taken.add(start)
        part = slice(start, start + self._batch_size)
        return self._x[samples[part]], self._draws.labels[places[part]]

    def __iter__(self):
        self.on_epoch_begin()
        return super().__iter__()

    def on_epoch_begin(self):
        self._is_open = True

    def on_epoch_end(self):
        # Keras calls this before training, too, and after a batch that it takes to build the
        # model; and with `steps_per_epoch`, a pass over the data may take several of its epochs.
        is_over = self._is_open and len(self._taken) == len(self)
        if is_over:
            self.epoch += 1
        if is_over or not self._is_open:
            self._taken.clear()
        self._is_open = False

    def _of_epoch(self, epoch):
        # A single assignment: threads may draw the same twice, and never see half of it.
        drawn = self._drawn
        if drawn is None or drawn[0] != epoch:
            samples, places, _ = self._draws(epoch)
            self._drawn = drawn = epoch, samples, places
        return drawn[1:]
