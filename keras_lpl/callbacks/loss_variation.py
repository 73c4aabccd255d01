"""Records how a loss's perturbations change the loss of each class (Figs. 1 and 5 of LPL)."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.models.lpl_model import LPLModel


class LossVariation(keras.callbacks.Callback):
    """Records the relative change of each class's loss, `(l' - l) / l`, during training.

    `l` is the mean cross-entropy of the class's samples, `l'` that of the perturbed logits: classes
    of positive variation are augmented, those of negative variation held back. Measured in
    inference mode, on the data given, without touching the model's state.

    Args:
        x: Inputs, `(samples, ...)`; or batches: anything that can be iterated over again and
            gives `(x, y)` or `(x, y, sample_weight)`, such as a `tf.data.Dataset`.
        y: Labels of `x`; None if `x` gives batches.
        batch_size: Samples per batch. Class means are taken over a batch, as in training, so use
            the batch size of training.
        every: Record every so many epochs.
        seed: Order in which samples of `x` are put into batches.
        output: Name of the output to record, of an `LPLModel` with several; its labels are then
            found in `y` by that name or by position.

    Attributes:
        epochs: The epochs recorded, counted from 1.
        history: For each of them an array `(num_classes,)`, or `(labels, 2)` for several labels;
            NaN for classes not in the data.

    Raises:
        ValueError: when training starts without a `keras_lpl.PerturbedCrossentropy` loss.

    Example:

    >>> x, y = np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2])
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss(class_counts=[3, 2, 1]))
    >>> variation = keras_lpl.callbacks.LossVariation(x, y)
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[variation])
    >>> len(variation.history), variation.history[-1].shape
    (2, (3,))
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 128,
        every: int = 1,
        seed: int = 0,
        output: str | None = None,
    ) -> None:
        super().__init__()
        self.every = checks.integer(every, "every", minimum=1)
        self.batches = x if y is None else _Batches(x, y, batch_size, seed)
        self.output = output
        self.epochs: list[int] = []
        self.history: list[np.ndarray] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks that there is something to record."""
        _perturbing_loss(self.model, self.output)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Records the variation after an epoch."""
        if (epoch + 1) % self.every == 0:
            self.epochs.append(epoch + 1)
            self.history.append(loss_variation(self.model, self.batches, self.output))


def loss_variation(
    model: keras.Model, batches: Iterable[Any], output: str | None = None
) -> np.ndarray:
    """Relative change of each class's loss by the perturbations, `(l' - l) / l`.

    Args:
        model: A model compiled with a `keras_lpl.PerturbedCrossentropy` loss.
        batches: Gives `(x, y)` or `(x, y, sample_weight)`.
        output: Name of the output, of an `LPLModel` with several.

    Returns:
        `(num_classes,)`, or `(labels, 2)` for several labels.
    """
    loss = _perturbing_loss(model, output)
    plain_sum: Any = 0.0
    perturbed_sum: Any = 0.0
    for batch in batches:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = model.predict_on_batch(x)
        if isinstance(model, LPLModel):
            y, y_pred, weight = model.parts_of_output(output, y, y_pred, weight)
            _, perturbed = model.perturb_on_batch(x, y, weight, output)
        else:
            perturbed = loss.perturb(y, y_pred, weight)
        samples = loss.read(y, y_pred, weight)
        perturbed = ops.reshape(ops.convert_to_tensor(perturbed), samples.logits.shape)
        plain_sum = plain_sum + _by_class(samples, samples.logits)
        perturbed_sum = perturbed_sum + _by_class(samples, perturbed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (perturbed_sum - plain_sum) / plain_sum


def _by_class(samples, logits):
    losses = crossentropy(samples, ops.cast(logits, samples.logits.dtype))
    return ops.convert_to_numpy(samples.sum_by_class(losses)).astype("float64")


def _perturbing_loss(model, output=None):
    if isinstance(model, LPLModel) and output is not None:
        losses = [model.loss_of_output(output)]
    else:
        losses = keras.tree.flatten(getattr(model, "loss", None))
    for loss in losses:
        if isinstance(loss, PerturbedCrossentropy):
            return loss
    raise ValueError(
        "`LossVariation` compares the losses of plain and perturbed logits: compile the model with "
        f"a `keras_lpl.PerturbedCrossentropy` loss such as `LPLLoss`. Received: loss={losses}"
    )


class _Batches:
    """Seeded batches of arrays, the same each time."""

    def __init__(self, x: Any, y: Any, batch_size: int, seed: int) -> None:
        self.x, self.y = np.asarray(x), np.asarray(y)
        order = np.random.default_rng(seed).permutation(len(self.x))
        self.parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def __iter__(self) -> Iterator[Any]:
        return ((self.x[part], self.y[part]) for part in self.parts)
