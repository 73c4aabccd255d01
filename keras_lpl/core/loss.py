"""Base of all losses: reads labels and weights, asks for context, and is plain in evaluation."""

import contextvars
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import advice, checks
from keras_lpl.core.context import Context, Scope, current_scope
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.numerics import LARGEST
from keras_lpl.core.outputs import (
    PROBABILITY_SLACK,
    find_probabilities,
    read_output,
    spread_weight,
)
from keras_lpl.core.perturbation import NEEDS
from keras_lpl.core.replicas import gather
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import mean_confidence
from keras_lpl.core.typing import Tensor

# The loss that is being computed, its samples, its context and, for several labels, the weights of
# the classes: Keras hands `call` labels and logits alone. A context variable, as replicas run in
# threads.
_computed: contextvars.ContextVar[tuple[Any, Samples, Context, Any] | None] = (
    contextvars.ContextVar("keras_lpl_computed", default=None)
)


class ClassificationLoss(keras.losses.Loss):
    """Base class of losses on labels and logits that know whether the model is training.

    Implement `per_sample`. In an `LPLModel` the loss applies during training only, and evaluation
    is plain cross-entropy of raw logits; in any other `keras.Model` it applies wherever it is
    called.

    Args:
        from_logits: False if the model ends in a softmax or sigmoid: the loss then works on the
            logarithms of its probabilities.
        multi_label: True if a sample may have several labels at once, or none: each unit of the
            output is then a label of its own, with labels 0 or 1 of the same shape.
        ignore_class: Class index whose rows take no part, such as 255 or -1, as in
            `keras.losses.SparseCategoricalCrossentropy`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`. Half precision is refused: bfloat16 cannot
            tell class 257 from class 256. The model may still compute in half precision.

    Call arguments:
        y_true: Class indices `(...)` or `(..., 1)`, or one-hot or soft labels `(..., classes)`. For
            one logit, 0 and 1, or between. For several labels, the same of shape `(..., labels)`.
        y_pred: Logits `(batch, ..., classes)`; `(batch, ..., 1)` for two classes; or
            `(batch, ..., labels)` with `multi_label=True`.
        sample_weight: `(batch,)` or the leading shape of the logits, `(batch, ...)`; or None.

    Attributes:
        needs: State that `per_sample` reads, as in `keras_lpl.perturbations.Perturbation`.
        supports_multi_label: False if the method makes no sense for several labels per sample.
        corrects_prior: True if it makes up for the class frequencies, as class weights do.

    Raises:
        ValueError: when called with labels or logits of the wrong shape, with a label that is not
            a class (in compiled code: a NaN loss), or outside of `LPLModel` if it needs more than
            the batch.
    """

    needs: tuple[str, ...] = ()
    supports_multi_label: bool = True
    corrects_prior: bool = False

    def __init__(
        self,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        dtype = keras.backend.standardize_dtype(dtype or "float32")
        checks.one_of(dtype, "dtype", ("float32", "float64"))
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = checks.boolean(from_logits, "from_logits")
        self.multi_label = checks.boolean(multi_label, "multi_label")
        self._is_output_known = self._is_weight_known = False
        self.ignore_class = None
        if ignore_class is not None:
            self.ignore_class = checks.integer(ignore_class, "ignore_class", minimum=-(2**31))
        if self.multi_label:
            self._check_multi_label()

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        """Loss of each row, `(rows,)`.

        Args:
            samples: The batch, under several replicas that of all of them. Rows whose label is no
                class, or whose logits or weight are not finite, get a NaN loss, whatever is
                returned for them.
            context: State of training, with everything in `needs` filled in.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `per_sample`")

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        """Creates running statistics, as in `keras_lpl.perturbations.Perturbation`."""
        return {}

    def check_head(self, layer: Any) -> None:
        """Checks the layer that computes the logits, when compiled into an `LPLModel`."""

    # --- Called by Keras ------------------------------------------------------------------------

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        scope = current_scope(y_pred)
        # Evaluation is plain, each row by itself: nothing to gather.
        replicas = engines.num_replicas() if scope.context.training else 1
        if replicas == 1:  # else this one's part may be empty
            _check_not_empty(y_pred)
        self._look_at_the_model(y_pred, sample_weight, scope)
        samples = self.read(y_true, y_pred, sample_weight, scope)
        leading = tuple(y_pred.shape)[:-1]
        weight = spread_weight(sample_weight, leading, samples.shape, self.dtype)
        own = None
        if replicas > 1:
            samples, weight, own = gather(samples, weight, replicas if self._is_reduced else None)
        context = scope.begin(samples)
        weight = self._weight_of_losses(samples, weight, scope)
        class_weight = None if samples.num_problems is None else scope.class_weight
        token = _computed.set((self, samples, context, class_weight))
        try:
            # Without Keras's mask, which the weight has taken in.
            loss = super().__call__(samples.logits, samples.logits, weight)
        finally:
            _computed.reset(token)
        scope.end(samples)
        if own is not None and not self._is_reduced:
            return own(loss)
        if replicas > 1 and self.reduction == "sum" and engines.REPLICAS_SUM_GRADIENTS:
            return loss / replicas  # as Keras does with means
        return loss

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Losses in the leading shape of the output, `(batch, ...)`, not weighted."""
        computed = _computed.get()
        if computed is not None and computed[0] is self:
            _, samples, context, class_weight = computed
        else:
            scope = current_scope(y_pred)
            samples, context = self.read(y_true, y_pred, None, scope), scope.context
            class_weight = None
        if not context.training:
            return samples.to_output(crossentropy(samples))
        losses = self.per_sample(samples, self._complete(context, samples))
        if class_weight is not None:  # of several labels, each has a weight of its own
            losses = losses * samples.of_own_class(class_weight)
        return samples.to_output(losses)

    def read(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        scope: Scope | None = None,
    ) -> Samples:
        """Reads a batch as this loss takes it; see the class for the arguments."""
        return read_output(
            y_true,
            y_pred,
            sample_weight,
            multi_label=self.multi_label,
            ignore_class=self.ignore_class,
            from_logits=self.from_logits,
            features=None if scope is None else scope.features,
            dtype=self.dtype,
        )

    def _look_at_the_model(self, y_pred, sample_weight, scope):
        """Warns once of a softmax before a loss of logits, and of class weights beside it."""
        # Values are looked at once: a copy to the host in every step would cost more than it helps.
        if not self._is_output_known and not self.from_logits:
            self._is_output_known = self._check_probabilities(y_pred)
        elif not self._is_output_known:
            found = find_probabilities(y_pred)
            if found is None:  # compiled, on JAX
                found = advice.ends_in_probabilities(advice.training_call()[0])
            self._is_output_known = found is not None
            if found:
                advice.warn_of_probabilities(self)
        # An `LPLModel` looks at class weights itself.
        if sample_weight is not None and not self._is_weight_known and type(scope) is Scope:
            self._is_weight_known = True
            if advice.training_call()[1] is not None:
                advice.warn_of_two_corrections(self, "`class_weight`", stacklevel=4)

    def _check_probabilities(self, y_pred):
        """Refuses logits where probabilities are meant; False if values cannot be seen."""
        values = engines.concrete(y_pred)
        if (
            values is not None
            and values.size
            and np.any(np.abs(values - 0.5) > 0.5 + PROBABILITY_SLACK)
        ):
            raise ValueError(
                f"`{type(self).__name__}(from_logits=False)` takes probabilities, and the model's "
                "output is none. Leave `from_logits` out for a model that ends in logits. "
                f"Received: values from {values.min():g} to {values.max():g}"
            )
        return values is not None

    @property
    def _is_reduced(self):
        return self.reduction not in (None, "none")

    def _weight_of_losses(self, samples, weight, scope):
        """Weights of the losses for Keras, in the leading shape of the output, or None."""
        if weight is not None:  # such a row has a NaN loss, and its gradient must stay finite
            weight = ops.where(ops.abs(weight) < LARGEST, weight, 1.0)
        if scope.class_weight is not None and samples.num_problems is None:
            of_rows = ops.reshape(samples.of_own_class(scope.class_weight), samples.shape)
            weight = of_rows if weight is None else weight * of_rows
        counted = samples.counted_in_output()
        if counted is None:
            return weight
        counted = ops.cast(counted, self.dtype)
        if self.reduction in ("sum_over_batch_size", "mean"):
            # Keras divides by the number of losses; the mean is over those that are counted.
            counted = counted / ops.maximum(ops.mean(counted), 1e-30)
        return counted if weight is None else weight * counted

    def _complete(self, context: Context, samples: Samples) -> Context:
        """Fills in what the batch can give, and refuses to go on without the rest."""
        for who, what in self._who_needs():
            if not what:
                continue
            if "confidence" in what and context.confidence is None:
                confidence, weight = mean_confidence(samples)
                context = context.replace(confidence=confidence, confidence_weight=weight)
            lacking = [need for need in _checked(what) if _is_lacking(need, samples, context)]
            if lacking:
                lacking.sort(key=NEEDS.index)
                raise ValueError(
                    f"{who} needs the model's {' and '.join(lacking)}, "
                    "which a loss does not get to see in a plain `keras.Model`. Compile it into "
                    "a `keras_lpl.LPLModel` (`keras_lpl.LPLModel.from_model(model)` shares the "
                    f"layers of yours) and train with `fit`. Received: {' and '.join(lacking)}=None"
                )
        return context

    def all_needs(self) -> set[str]:
        """Everything that the loss or one of its parts needs of the context."""
        return {need for _, what in self._who_needs() for need in _checked(what)}

    def _who_needs(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        """Pairs of a name for messages and the needs of that part."""
        return [(type(self).__name__, self.needs)]

    def _check_multi_label(self) -> None:
        if not self.supports_multi_label:
            raise refuse_multi_label(type(self).__name__)

    def get_config(self) -> dict[str, Any]:
        return {
            "from_logits": self.from_logits,
            "multi_label": self.multi_label,
            "ignore_class": self.ignore_class,
            **super().get_config(),
            "dtype": self.dtype,  # Keras leaves it out
        }


def _check_not_empty(y_pred):
    """Refuses a batch without rows, of which there is no mean; Keras returns an array of none."""
    if 0 in tuple(getattr(y_pred, "shape", ())):
        raise ValueError(
            "The batch is empty, so there is no loss: leave it out, and look at where the data "
            f"come from. Received: an output of shape {tuple(y_pred.shape)}"
        )


def _checked(needs):
    for need in needs:
        if need not in NEEDS:
            raise ValueError(f"A perturbation can need {list(NEEDS)}. Received: {need!r}")
    return needs


def _is_lacking(need, samples, context):
    state = getattr(samples if need == "features" else context, need)
    return state is None or (isinstance(state, Mapping) and not state)


def refuse_multi_label(who: str) -> ValueError:
    """The error for a method that tells classes of one problem apart."""
    return ValueError(
        f"{who} compares the classes of one label, and has no form for several labels per sample. "
        "`LPLLoss`, `LogitAdjustmentLoss`, `VSLoss`, `AsymmetricLoss`, `DistributionBalancedLoss`, "
        "`FocalLoss`, `ClassBalancedLoss`, `AverageTopKLoss`, `GeneralizedCrossEntropyLoss`, "
        "`BootstrappingLoss` and `ProSelfLCLoss` do. Received: multi_label=True"
    )
