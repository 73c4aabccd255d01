"""What the losses of this package share: labels, precision, context, and when to be plain."""

import math

import keras
from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl._numerics import finite_rows
from keras_lpl.perturbations.base import NEEDS
from keras_lpl.perturbations.context import context_scope, current_context


class ClassificationLoss(keras.losses.Loss):
    """Base class of losses on labels and logits that know whether the model is training.

    Implement `per_sample`. In an `LPLModel` the loss applies during training only, and evaluation
    is plain cross-entropy of raw logits; in any other `keras.Model` it applies wherever it is
    called.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`. Half precision is refused: bfloat16 cannot
            tell class 257 from class 256. The model may still compute in half precision.

    Call arguments:
        y_true: Class indices `(batch,)` or `(batch, 1)`, or one-hot or soft labels
            `(batch, num_classes)`.
        y_pred: Logits `(batch, num_classes)`, not probabilities.
        sample_weight: `(batch,)` or None.

    Attributes:
        needs: What `per_sample` reads of the context, as in `keras_lpl.perturbations.Perturbation`.

    Raises:
        ValueError: when called with labels or logits of the wrong shape, with a label that is not
            a class (in compiled code: a NaN loss), or outside of `LPLModel` if it needs more than
            the batch.
    """

    needs = ()

    def __init__(self, reduction="sum_over_batch_size", name=None, dtype=None):
        dtype = keras.backend.standardize_dtype(dtype or "float32")
        checks.one_of(dtype, "dtype", ("float32", "float64"))
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def per_sample(self, labels, logits, context):
        """Returns the loss of each sample, `(batch,)`.

        Args:
            labels: int32 `(batch,)`, or soft labels `(batch, num_classes)` where the user gave
                one-hot or soft ones. -1 is a label that is not a class: what is returned for it
                does not matter, as its loss is NaN.
            logits: `(batch, num_classes)`, float32 or float64. Samples with a logit that is not
                finite get a NaN loss, whatever is returned for them.
            context: A `keras_lpl.perturbations.Context`, with everything in `needs` filled in.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `per_sample`")

    def create_statistics(self, num_classes, num_features):
        """The running statistics it reads, as in `keras_lpl.perturbations.Perturbation`."""
        return {}

    def check_head(self, layer):
        """Looks at the layer that computes the logits, when compiled into an `LPLModel`."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras gives `call` no weights, and class means must leave out samples of weight 0.
        weight = _with_mask(sample_weight, y_pred)
        with context_scope(current_context().replace(sample_weight=weight)):
            return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        context = current_context()
        labels = checks.labels(y_true, y_pred)
        if not context.training:
            return functional.softmax_crossentropy(labels, y_pred)
        context = self._complete(context, labels, y_pred)
        loss = self.per_sample(labels, y_pred, context)
        return ops.where(_is_usable(labels, y_pred), loss, math.nan)

    def _complete(self, context, labels, logits):
        """Fills in what the batch can give, and refuses to go on without the rest."""
        needs = self.all_needs()
        if "confidence" in needs and context.confidence is None:
            confidence, weight = functional.class_confidence(labels, logits, context.sample_weight)
            context = context.replace(confidence=confidence, confidence_weight=weight)
        for who, what in self._who_needs():
            lacking = [need for need in NEEDS if need in what and getattr(context, need) is None]
            if lacking:
                raise ValueError(
                    f"{who} needs the model's {' and '.join(lacking)}, "
                    "which a loss does not get to see in a plain `keras.Model`. Compile it into "
                    "a `keras_lpl.LPLModel` (`keras_lpl.LPLModel.from_model(model)` shares the "
                    f"layers of yours) and train with `fit`. Received: {' and '.join(lacking)}=None"
                )
        return context

    def all_needs(self):
        """Everything that the loss or one of its parts needs of the context, as a set."""
        needs = {need for _, what in self._who_needs() for need in what}
        for need in needs - set(NEEDS):
            raise ValueError(f"A perturbation can need {list(NEEDS)}. Received: {need!r}")
        return needs

    def _who_needs(self):
        """Pairs of a name for messages, and what that part needs."""
        return [(type(self).__name__, self.needs)]

    def get_config(self):
        # Keras leaves dtype out.
        return {**super().get_config(), "dtype": self.dtype}


def _is_usable(labels, logits):
    usable = finite_rows(logits)
    if len(labels.shape) == 1:
        usable = ops.logical_and(usable, labels >= 0)
    return usable


def _with_mask(sample_weight, y_pred):
    """The sample weight `(batch,)`, 0 where Keras's mask of the prediction says so."""
    if sample_weight is not None:
        sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is None:
        return sample_weight
    mask = ops.reshape(ops.cast(mask, "float32"), (-1,))
    return mask if sample_weight is None else mask * ops.cast(sample_weight, "float32")
