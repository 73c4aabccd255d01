"""Deferred re-weighting (DRW): class weights from a late epoch on.

Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
Algorithm 1, with the class-balanced weights of Cui et al., CVPR 2019.
"""

from typing import Any

import keras
import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.advice import warn_of_two_corrections
from keras_lpl.core.typing import Counts
from keras_lpl.methods.class_balanced import class_balanced_weights
from keras_lpl.models.lpl_model import LPLModel


class DeferredReweighting(keras.callbacks.Callback):
    """Trains without class weights first, and with class-balanced ones from `start_epoch` on.

    Features are learnt better without weights, a balanced classifier with them. With `LDAMLoss` it
    is LDAM-DRW, with cross-entropy DRW; it goes with any loss, of Keras too, and with any output:
    pixels and tokens, for which Keras refuses `class_weight=`, one logit, several labels.

    The weights are state of an `LPLModel`, so nothing is compiled again when they change. The epoch
    decides which ones hold: a run resumed with `initial_epoch`, or by
    `keras.callbacks.BackupAndRestore`, goes on where it stopped, if this callback is passed again.
    Class weights are removed when training ends, by an exception too.

    Keras divides a weighted sum by the number of samples. The authors' code divides by the sum of
    the weights, which keeps the size of the steps: compile the loss with
    `reduction="mean_with_sample_weight"` for that.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; for one logit negatives and positives, for several labels `(labels, 2)`.
        start_epoch: The first epoch with weights, counted from 0. The authors train 200 epochs and
            start at 160, where the learning rate drops.
        beta: Of the class-balanced weights `(1 - beta) / (1 - beta^N_c)`, which are scaled to sum
            to the number of classes.
        class_weight: Weights of your own in their place, in the shape of the counts.
        output: Name of the output they are for; None for the only one.

    Raises:
        ValueError: for an argument out of range, or, when training starts, if the model is not an
            `LPLModel`, or its number of classes is another one.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras_lpl.layers.CosineDense(2)(inputs))
    >>> model.compile(
    ...     "sgd", loss=keras_lpl.LDAMLoss([4, 2], reduction="mean_with_sample_weight")
    ... )
    >>> reweight = keras_lpl.callbacks.DeferredReweighting([4, 2], start_epoch=1)
    >>> x, y = np.ones((6, 8)), np.array([0, 0, 0, 0, 1, 1])
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[reweight])
    """

    def __init__(
        self,
        class_counts: Counts,
        start_epoch: int,
        beta: float = 0.9999,
        class_weight: Any = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        self._is_on = False
        self.output = output
        self.class_counts = checks.class_counts(class_counts)
        self.start_epoch = checks.integer(start_epoch, "start_epoch", minimum=0)
        if class_weight is None:
            self.class_weight = class_balanced_weights(self.class_counts, beta)
        else:
            shape = np.shape(self.class_counts)
            self.class_weight = checks.class_weights(class_weight, shape, "`class_counts`")

    def set_model(self, model: keras.Model) -> None:
        """Prepares the model, before its training step is compiled."""
        super().set_model(model)
        if not isinstance(model, LPLModel):
            raise ValueError(
                "`DeferredReweighting` changes class weights inside of compiled training, which "
                "takes a `keras_lpl.LPLModel`: wrap yours with "
                "`keras_lpl.LPLModel.from_model(model)` and compile that. "
                f"Received: {type(model).__name__}"
            )
        weights = model.class_weight
        if isinstance(weights, dict):
            weights = weights[model.find_output(self.output)]
        checks.class_weights(self.class_weight, tuple(weights.shape), "the model's output")
        loss = model.loss_of_output(self.output)
        warn_of_two_corrections(loss, "`DeferredReweighting`", stacklevel=4)
        if loss is None:
            model.check_single_labels(self.output)
        model.reweight_classes(np.ones(self.class_weight.shape), self.output)
        self._is_on = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the weights of this epoch."""
        begun = epoch >= self.start_epoch
        weights = self.class_weight if begun else np.ones(self.class_weight.shape)
        self.model.reweight_classes(weights, self.output)

    def on_train_end(self, logs: Any = None) -> None:
        """Removes the weights."""
        self._is_on = False
        self.model.reweight_classes(None, self.output)

    def on_train_interrupted(self) -> None:
        """Removes the weights after an exception in `fit`, when Keras calls nothing else."""
        if self._is_on:
            self.on_train_end()
