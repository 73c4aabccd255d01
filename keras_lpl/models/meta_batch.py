"""One training batch on its way through a step of a `MetaModel`."""

import contextlib
import contextvars
import math
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_lpl import engines
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.masks import give_mask, mask_of
from keras_lpl.core.outputs import spread_weight
from keras_lpl.core.typing import Tensor
from keras_lpl.models.numbered import Rows, labels_and_numbers
from keras_lpl.models.plan import read_samples
from keras_lpl.models.state import adapted_context

# Losses of the layers that were seen in the forward pass, for the losses that are computed of it.
layer_losses: contextvars.ContextVar[list[Tensor] | None] = contextvars.ContextVar(
    "keras_lpl_layer_losses", default=None
)


class ForwardPass(NamedTuple):
    """What a forward pass leaves behind: all that the losses computed of it read.

    Attributes:
        y_pred: Predictions, in the structure of the model's output.
        mask: Mask of the predictions, or None.
        features: Features that the loss reads, by the index of their output.
        losses: Losses of the layers.
        values: Values of the non-trainable variables after it.
    """

    y_pred: Any
    mask: Tensor | None
    features: dict[int, Tensor]
    losses: list[Tensor]
    values: list[Tensor]


class MetaBatch:
    """A training batch, with the functions of which a look ahead is made.

    Attributes:
        y: Labels as they were given, without the numbers of their samples.
    """

    def __init__(self, model: Any, x: Any, y: Any, sample_weight: Any) -> None:
        self.model, self.x, self.sample_weight = model, x, sample_weight
        self.method = model.method
        self.y = y
        self.rows: Rows | None = None
        corrections = self.method.corrections(model.meta_state)
        if corrections is not None:
            self.y, numbers = labels_and_numbers(y)
            self.rows = Rows(corrections, numbers)
            # As it is now: the loss counts the step.
            follows = self.method.follows_schedule
            progress = model.statistics.get("progress").value if follows else 0.0
            self.progress = ops.convert_to_tensor(progress, dtype="float32")
        self.variables = model.trainable_variables
        # What a forward pass or a loss may assign: running statistics, seeds, moving averages.
        of_method = {id(variable) for variable in model.own_variables_of_method()}
        self.others = [v for v in model.non_trainable_variables if id(v) not in of_method]
        self.values = [variable.value for variable in self.others]
        self.scale = model.optimizer.scale_loss(ops.ones((), dtype="float32"))
        self.learnt = self._learnt()

    def _learnt(self):
        model = self.model
        (plan,) = model._plan.outputs
        statistics = {name: model.statistics.get(full) for name, full in plan.statistics.items()}
        rank = len(plan.output.form.leading)
        shape = tuple(ops.shape(ops.convert_to_tensor(self.y))[:rank])
        return self.method.learnt(model.meta_state, statistics, shape)

    def forward(self, weights: list[Tensor]) -> ForwardPass:
        """The forward pass of the training batch."""
        model = self.model
        with self._scope(weights, self.values, collect_losses=True) as scope, model.training_step():
            y_pred = model(self.x, training=True)
            losses, features = list(model.losses), model._seen_features()
        mask = mask_of(keras.tree.flatten(y_pred)[0])
        return ForwardPass(y_pred, mask, features, losses, self._updates(scope))

    def virtual_loss(
        self, weights: list[Tensor], outputs: ForwardPass, learnt: list[Tensor]
    ) -> Tensor:
        """Loss of the virtual step, a scalar."""
        # What it updates is dropped. Copies, as PyTorch updates some statistics in their memory.
        outputs = outputs._replace(losses=[], values=[ops.copy(value) for value in outputs.values])
        loss, _ = self._loss(weights, outputs, learnt, self.method.virtual_weight)
        return loss * self.scale

    def loss(
        self, weights: list[Tensor], outputs: ForwardPass, learnt: list[Tensor]
    ) -> tuple[Tensor, tuple[Any, Tensor, list[Tensor]]]:
        """Loss of the training step, scaled; and the predictions, the loss and what it assigns."""
        loss, updates = self._loss(weights, outputs, learnt, self.method.sample_weight)
        rest = (ops.stop_gradient(outputs.y_pred), ops.stop_gradient(loss), updates)
        return self.model.optimizer.scale_loss(loss), rest

    def _loss(self, weights, outputs, learnt, weight_of):
        model, method, y_pred = self.model, self.method, outputs.y_pred
        give_mask(keras.tree.flatten(y_pred)[0], outputs.mask)
        with self._scope(weights, outputs.values) as scope:
            losses, given, samples = self._losses(y_pred)
            # A bad row must spoil neither the weights of the others nor hide behind a weight of 0.
            is_bad = ops.isnan(losses)
            labels = self.y
            if self.rows is not None:
                is_bad = ops.logical_or(is_bad, self.rows.are_bad)
                labels = self._corrected(self.rows, learnt, samples)[0]
                labels = ops.where(is_bad[:, None], 1 / samples.num_classes, labels)
            usual = weight_of(learnt, _zero_where(is_bad, losses), _zero_where(is_bad, given))
            # Keras's own losses multiply by the weight, and NaN would reach the model.
            has_law = model._plan.outputs[0].loss is not None
            weight = ops.where(is_bad, math.nan if has_law else given, usual)
            with (
                _set(layer_losses, outputs.losses),
                model._step_with(outputs.features),
                adapted_context(lambda context: method.adapt(context, learnt)),
            ):
                loss = model.compute_loss(self.x, labels, y_pred, weight, training=True)
        return loss, self._updates(scope)

    def _losses(self, y_pred):
        """Cross-entropy of each sample, NaN for a bad one, the weights given, and the samples."""
        logits = keras.tree.flatten(y_pred)[0]
        samples = read_samples(self.model, self.y, logits, self.sample_weight)
        losses = ops.stop_gradient(samples.to_output(crossentropy(samples)))
        leading = tuple(logits.shape)[:-1]
        given = spread_weight(self.sample_weight, leading, samples.shape, "float32")
        given = ops.ones_like(losses) if given is None else given
        counted = samples.counted_in_output()
        if counted is not None:
            given = given * ops.cast(counted, "float32")
        return ops.cast(losses, "float32"), ops.cast(given, "float32"), samples

    def _corrected(self, rows, learnt, samples):
        """Labels that the loss sees, and those that are kept."""
        return self.method.correct(learnt, samples, rows.values, self.progress)

    def keep_corrections(self, learnt: list[Tensor], y_pred: Any) -> None:
        """Keeps what the labels were corrected to, of samples that take part, if there are any."""
        if self.rows is not None:
            logits = keras.tree.flatten(y_pred)[0]
            samples = read_samples(self.model, self.y, logits, self.sample_weight)
            kept = self._corrected(self.rows, learnt, samples)[1]
            self.rows.assign(kept, samples.weight > 0)

    def improve(self, gradients: list[Tensor], push: Any) -> list[Tensor]:
        """Looks ahead: from the gradients of the virtual loss to a better `learnt`."""
        method, model, scale = self.method, self.model, self.scale
        rate = self._rate()
        weights = [variable.value for variable in self.variables]
        if method.takes_virtual_step:
            weights = [
                w - ops.cast(rate / scale, w.dtype) * ops.cast(g, w.dtype)
                for w, g in zip(weights, gradients, strict=True)
            ]
        x, y = model.meta_samples.take()

        def meta_loss(weights):
            with self._scope(weights, self.values), model.training_step():
                logits = keras.tree.flatten(model(x, training=True))[0]
            samples = read_samples(model, y, logits)
            losses = crossentropy(samples) * samples.weight
            return scale * ops.sum(losses) / ops.sum(samples.weight)

        directions = engines.gradients_of(meta_loss, weights)[1]
        # Both losses were scaled.
        products = push([d / ops.cast(scale, d.dtype) for d in directions])
        gradients = [-rate / scale * ops.cast(product, "float32") for product in products]
        return method.improve(self.learnt, _finite_or_zero(gradients), model.meta_state)

    def _rate(self):
        if not self.method.takes_virtual_step:
            return 1.0
        given = self.model.virtual_learning_rate
        rate = self.model.optimizer.learning_rate if given is None else given
        return ops.cast(ops.convert_to_tensor(rate), "float32")

    def _scope(self, weights, values, **keywords):
        mapping = zip([*self.variables, *self.others], [*weights, *values], strict=True)
        return keras.StatelessScope(state_mapping=mapping, **keywords)

    def _updates(self, scope):
        return [scope.get_current_value(variable) for variable in self.others]


@contextlib.contextmanager
def _set(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _zero_where(mask, x):
    return ops.where(mask, 0.0, x)


def _finite_or_zero(gradients):
    """Gradients, or zeros if one of their numbers is not finite: half precision overflows."""
    are_finite = ops.all(ops.stack([ops.all(ops.isfinite(gradient)) for gradient in gradients]))
    return [ops.where(are_finite, gradient, 0.0) for gradient in gradients]
