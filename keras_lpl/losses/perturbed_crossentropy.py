"""The one loss: softmax cross-entropy of the logits, after each perturbation in turn."""

import keras
from keras import ops

from keras_lpl import _checks, functional
from keras_lpl.perturbations.base import NEEDS, Perturbation, register
from keras_lpl.perturbations.context import context_scope, current_context


@register
class PerturbedCrossentropy(keras.losses.Loss):
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
        dtype = keras.backend.standardize_dtype(dtype or "float32")
        _checks.one_of(dtype, "dtype", ("float32", "float64"))
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if isinstance(perturbations, Perturbation):
            perturbations = [perturbations]
        self.perturbations = list(perturbations)
        for perturbation in self.perturbations:
            if not isinstance(perturbation, Perturbation):
                raise ValueError(
                    "`perturbations` must be a list of `keras_lpl.perturbations.Perturbation`. "
                    f"Received: {perturbation!r}"
                )

    @property
    def needs(self):
        """Everything that one of the perturbations needs of the context."""
        needs = {need for perturbation in self.perturbations for need in perturbation.needs}
        for need in needs - set(NEEDS):
            raise ValueError(f"A perturbation can need {list(NEEDS)}. Received: {need!r}")
        return needs

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras gives `call` no weights, and class means must leave out samples of weight 0.
        weight = _with_mask(sample_weight, y_pred)
        with context_scope(current_context().replace(sample_weight=weight)):
            return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        context = current_context()
        labels = _checks.labels(y_true, y_pred)
        logits = self._perturb(labels, y_pred, context) if context.training else y_pred
        return functional.softmax_crossentropy(labels, logits)

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
        return self._perturb(_checks.labels(labels, logits), logits, context)

    def _perturb(self, labels, logits, context):
        context = self._complete(context, labels, logits)
        for perturbation in self.perturbations:
            logits = perturbation(labels, logits, context)
        return logits

    def _complete(self, context, labels, logits):
        """Fills in what the batch can give, and refuses to go on without the rest."""
        needs = self.needs
        if "confidence" in needs and context.confidence is None:
            confidence, weight = functional.class_confidence(labels, logits, context.sample_weight)
            context = context.replace(confidence=confidence, confidence_weight=weight)
        missing = sorted(need for need in needs if getattr(context, need) is None)
        for perturbation in self.perturbations:
            lacking = [need for need in missing if need in perturbation.needs]
            if lacking:
                raise ValueError(
                    f"{type(perturbation).__name__} needs the model's {' and '.join(lacking)}, "
                    "which a loss does not get to see in a plain `keras.Model`. Compile it into "
                    "a `keras_lpl.LPLModel` (`keras_lpl.LPLModel.from_model(model)` shares the "
                    f"layers of yours) and train with `fit`. Received: {' and '.join(lacking)}=None"
                )
        return context

    def get_config(self):
        perturbations = [keras.saving.serialize_keras_object(p) for p in self.perturbations]
        return {"perturbations": perturbations, **self._base_config()}

    def _base_config(self):
        # Keras leaves dtype out.
        return {**super().get_config(), "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if "perturbations" in config:
            config["perturbations"] = [
                keras.saving.deserialize_keras_object(p) if isinstance(p, dict) else p
                for p in config["perturbations"]
            ]
        return cls(**config)


def _with_mask(sample_weight, y_pred):
    """The sample weight `(batch,)`, 0 where Keras's mask of the prediction says so."""
    if sample_weight is not None:
        sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is None:
        return sample_weight
    mask = ops.reshape(ops.cast(mask, "float32"), (-1,))
    return mask if sample_weight is None else mask * ops.cast(sample_weight, "float32")
