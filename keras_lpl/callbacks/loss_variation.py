"""Records how a loss's perturbations change the loss of each class (Figs. 1 and 5 of LPL)."""

import keras
import numpy as np

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.losses.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.models.lpl_model import LPLModel


class LossVariation(keras.callbacks.Callback):
    """Records the relative change of each class's loss, `(l' - l) / l`, during training.

    `l` is the mean cross-entropy of the class's samples, `l'` that of the perturbed logits: what
    is positive is augmented, what is negative held back. Seen in inference mode, on the data
    given, without touching the model's state.

    Args:
        x: Inputs, `(samples, ...)`; or batches: anything that can be iterated over again and
            gives `(x, y)` or `(x, y, sample_weight)`, such as a `tf.data.Dataset`.
        y: Labels of `x`; None if `x` gives batches.
        batch_size: Samples per batch. Class means are taken over a batch, as in training, so use
            the batch size of training.
        every: Record every so many epochs.
        seed: Order in which samples of `x` are put into batches.

    Attributes:
        epochs: The epochs recorded, counted from 1.
        history: For each of them an array `(num_classes,)`; NaN for classes not in the data.

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

    def __init__(self, x, y=None, batch_size=128, every=1, seed=0):
        super().__init__()
        self.every = int(checks.number(every, "every", minimum=1))
        self.batches = x if y is None else _Batches(x, y, batch_size, seed)
        self.epochs = []
        self.history = []

    def on_train_begin(self, logs=None):
        """Checks that there is something to record."""
        _perturbing_loss(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Records the variation after an epoch."""
        if (epoch + 1) % self.every == 0:
            self.epochs.append(epoch + 1)
            self.history.append(loss_variation(self.model, self.batches))


def loss_variation(model, batches):
    """Relative change of each class's loss by the perturbations, `(l' - l) / l`, `(num_classes,)`.

    Args:
        model: A model compiled with a `keras_lpl.PerturbedCrossentropy` loss.
        batches: Gives `(x, y)` or `(x, y, sample_weight)`.
    """
    loss = _perturbing_loss(model)
    plain_sum = perturbed_sum = 0.0
    for batch in batches:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if isinstance(model, LPLModel):
            logits, perturbed = model.perturb_on_batch(x, y, weight)
        else:
            logits = model.predict_on_batch(x)
            perturbed = loss.perturb(y, logits)
        classes = logits.shape[-1]
        labels = np.asarray(keras.ops.convert_to_numpy(y))
        if not checks.is_soft(labels, classes):
            labels = np.eye(classes)[labels.reshape(-1).astype("int64")]
        if weight is not None:
            weight = np.asarray(keras.ops.convert_to_numpy(weight)).reshape(-1, 1)
            labels = labels * weight
        plain_sum = plain_sum + _of_classes(labels, y, logits)
        perturbed_sum = perturbed_sum + _of_classes(labels, y, perturbed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (perturbed_sum - plain_sum) / plain_sum


def _of_classes(membership, y, logits):
    losses = keras.ops.convert_to_numpy(functional.softmax_crossentropy(y, logits))
    return membership.T @ losses.astype("float64")


def _perturbing_loss(model):
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

    def __init__(self, x, y, batch_size, seed):
        self.x, self.y = np.asarray(x), np.asarray(y)
        order = np.random.default_rng(seed).permutation(len(self.x))
        self.parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def __iter__(self):
        return ((self.x[part], self.y[part]) for part in self.parts)
