"""The one loss: softmax cross-entropy of the logits, after each perturbation in turn."""

import keras
from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.perturbations.base import Perturbation, register
from keras_lpl.perturbations.context import current_context


@register
class PerturbedCrossentropy(ClassificationLoss):
    """Softmax cross-entropy of perturbed logits.

    `loss_i = -log softmax(u_i + delta_i)[y_i]` (LPL, Eq. 10), where each perturbation adds its
    part of `delta` in the order of the list. An empty list is plain cross-entropy.

    Compiled into an `LPLModel`, the loss perturbs during training only, and `val_loss` is plain
    cross-entropy. Compiled into any other `keras.Model` it cannot tell the two apart and perturbs
    wherever it is called, knowing nothing but its batch.

    Args:
        perturbations: A list of `keras_lpl.perturbations`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`. Half precision is refused: bfloat16 cannot
            tell class 257 from class 256. The model may still compute in half precision.

    Call arguments:
        y_true: Class indices `(batch,)` or `(batch, 1)`, or one-hot or soft labels
            `(batch, num_classes)`.
        y_pred: Logits `(batch, num_classes)`, not probabilities.
        sample_weight: `(batch,)` or None. Also weighs the samples in class means.

    Raises:
        ValueError: when called with labels or logits of the wrong shape, with a label that is not
            a class (in compiled code: a NaN loss), or outside of `LPLModel` with a perturbation
            that needs more than the batch.

    Example:

    >>> loss = keras_lpl.PerturbedCrossentropy(
    ...     [keras_lpl.perturbations.LogitAdjustment(class_counts=[90, 10])]
    ... )
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 0.0]]))), 4))
    2.3026
    """

    def __init__(
        self,
        perturbations,
        reduction="sum_over_batch_size",
        name="perturbed_crossentropy",
        dtype=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        if isinstance(perturbations, Perturbation):
            perturbations = [perturbations]
        self.perturbations = list(perturbations)
        for perturbation in self.perturbations:
            if not isinstance(perturbation, Perturbation):
                raise ValueError(
                    "`perturbations` must be a list of `keras_lpl.perturbations.Perturbation`. "
                    f"Received: {perturbation!r}"
                )

    def per_sample(self, labels, logits, context):
        return functional.softmax_crossentropy(labels, self._perturb(labels, logits, context))

    def perturb(self, labels, logits, context=None):
        """Returns the perturbed logits, `(batch, num_classes)`.

        Args:
            labels: Class indices `(batch,)` or `(batch, 1)`, or soft labels
                `(batch, num_classes)`.
            logits: `(batch, num_classes)`.
            context: A `keras_lpl.perturbations.Context`; None if only the batch is known.
        """
        context = current_context() if context is None else context
        logits = ops.convert_to_tensor(logits, dtype=self.dtype)
        labels = checks.labels(labels, logits)
        return self._perturb(labels, logits, self._complete(context, labels, logits))

    def _perturb(self, labels, logits, context):
        for perturbation in self.perturbations:
            logits = perturbation(labels, logits, context)
        return logits

    def create_statistics(self, num_classes, num_features):
        created = {}
        for perturbation in self.perturbations:
            created |= perturbation.create_statistics(num_classes, num_features)
        return created

    def check_head(self, layer):
        for perturbation in self.perturbations:
            perturbation.check_head(layer)

    def _who_needs(self):
        return [(type(each).__name__, each.needs) for each in self.perturbations]

    def get_config(self):
        perturbations = [keras.saving.serialize_keras_object(p) for p in self.perturbations]
        return {"perturbations": perturbations, **super().get_config()}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if "perturbations" in config:
            config["perturbations"] = [
                keras.saving.deserialize_keras_object(p) if isinstance(p, dict) else p
                for p in config["perturbations"]
            ]
        return cls(**config)


class PerturbationLoss(PerturbedCrossentropy):
    """Base class of the presets: a loss of one perturbation, whose arguments are its own."""

    def get_config(self):
        return {**self.perturbations[0].get_config(), **ClassificationLoss.get_config(self)}
