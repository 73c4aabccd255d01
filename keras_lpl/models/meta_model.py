"""`MetaModel`: an `LPLModel` whose training step looks ahead.

One training step, with `w` the trainable weights and `t` what the method learns:

    forward pass            of the training batch, once
    g = grad_w L(w; t)      of the loss as the method weights or changes it
    w' = w - a g            the virtual step, plain gradient descent, as long as the optimizer's
    d = grad_w' L_meta(w')  cross-entropy of a batch of clean, balanced samples
    -a grad_t (g . d)       its gradient by `t`: one product of the mixed derivative with a vector
    t <- improved by it     as the method says
    grad_w L(w; t)          with the same forward pass; the optimizer's own step

Momentum, weight decay, regularizers and clipping belong to the last line alone, as in the code of
the authors of Meta-Weight-Net and MetaSAug.
"""

import contextlib
import contextvars
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.meta_method import MetaMethod
from keras_lpl.core.outputs import spread_weight
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.meta_weight_net import MetaWeightNet, weight_of_loss
from keras_lpl.models.head import check_logits, symbolic_tensors
from keras_lpl.models.lpl_model import LPLModel, only_leaf
from keras_lpl.models.meta_samples import make_meta_samples
from keras_lpl.models.plan import only_loss, read_samples
from keras_lpl.models.state import adapted_context

# Losses of the layers that were seen in the forward pass, for the losses that are computed of it.
_layer_losses: contextvars.ContextVar[list[Tensor] | None] = contextvars.ContextVar(
    "keras_lpl_layer_losses", default=None
)


@register
class MetaModel(LPLModel):
    """An `LPLModel` that learns from a few clean, balanced samples how to train on the others.

    Each training step looks one step ahead, and improves what the method learns: the net of
    `MetaWeightNet`, the weights of `LearningToReweight`, the covariances of `MetaSAug`. The virtual
    step is plain gradient descent, without momentum, weight decay and regularizers, as in the
    authors' code.

    A step takes a bit more than three times as long as one of `LPLModel`. Prediction and evaluation
    are those of `LPLModel`.

    Args:
        inputs: Input tensors, as in `keras.Model`.
        outputs: Logits, as in `LPLModel`; one output.
        method: `keras_lpl.models.MetaWeightNet` (default), `LearningToReweight` or `MetaSAug`.
        meta_data: `(x, y)`, arrays of clean samples, some of each class (10 in the papers), as the
            model takes them: apply what the input pipeline does to the training data. They are
            saved with the model.
        meta_batch_size: How many of them a step sees; by default all, up to 100. Batches go round
            the set, class by class.
        virtual_learning_rate: Length of the virtual step; by default the optimizer's learning rate
            at that time.

    Raises:
        ValueError: for `meta_data` that lacks a class or does not fit the model, a model of several
            outputs, and when compiled, for a loss that the method cannot train with. When trained,
            on several replicas of TensorFlow or PyTorch.

    Example:

    >>> x, y = np.random.normal(size=(24, 4)), np.repeat([0, 1, 2], [18, 4, 2])
    >>> x_meta, y_meta = np.random.normal(size=(30, 4)), np.repeat([0, 1, 2], 10)
    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = keras_lpl.models.MetaModel.from_model(network, meta_data=(x_meta, y_meta))
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> history = model.fit(x, y, verbose=0)
    """

    # Keras takes a model for a functional one at load only if the constructor reads like this.
    def __init__(
        self,
        *args: Any,
        method: MetaMethod | None = None,
        meta_data: Any = None,
        meta_batch_size: int | None = None,
        virtual_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if len(self.outputs) != 1:
            raise ValueError(
                "`MetaModel` trains models of one output, its logits. "
                f"Received: {len(self.outputs)} outputs"
            )
        if isinstance(method, dict):
            method = keras.saving.deserialize_keras_object(method)
        self.method = MetaWeightNet() if method is None else method
        if not isinstance(self.method, MetaMethod):
            raise ValueError(
                "`method` must be one of `keras_lpl.models`: `MetaWeightNet()`, "
                f"`LearningToReweight()` or `MetaSAug()`. Received: method={method!r}"
            )
        self.meta_samples = make_meta_samples(self, meta_data, meta_batch_size)
        self.meta_state = self.method.create_state()
        self.virtual_learning_rate = None
        if virtual_learning_rate is not None:
            self.virtual_learning_rate = checks.number(
                virtual_learning_rate, "virtual_learning_rate", minimum=0
            )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training, as `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        (plan,) = self._plan.outputs
        if plan.loss is None:
            check_logits(plan.output.tensor, "`MetaModel`", symbolic_tensors(self)[0])
            self.check_single_labels(None)
        self.method.check_loss(only_loss(self))
        self.meta_samples.check(plan.output, plan.loss)

    def get_config(self) -> dict[str, Any]:
        """Config of the model, with the form of the meta samples; the samples are weights."""
        return {
            **super().get_config(),
            "method": keras.saving.serialize_keras_object(self.method),
            "meta_data": self.meta_samples.get_specification(),
            "meta_batch_size": self.meta_samples.batch_size,
            "virtual_learning_rate": self.virtual_learning_rate,
        }

    def weight_of_losses(self, losses: Any) -> np.ndarray:
        """The weights that the net of `MetaWeightNet` gives to losses, before they are scaled.

        Args:
            losses: Losses of any shape.

        Returns:
            Weights between 0 and 1 in the shape of `losses`.

        Raises:
            ValueError: if the model's method is another one.
        """
        if not isinstance(self.method, MetaWeightNet):
            raise ValueError(
                "Only `MetaWeightNet` has a net that gives weights to losses. "
                f"Received: method={type(self.method).__name__}"
            )
        losses = ops.convert_to_tensor(losses, dtype="float32")
        return ops.convert_to_numpy(
            weight_of_loss(losses, self.method.learnt(self.meta_state, {}, ()))
        )

    @property
    def losses(self) -> list[Tensor]:
        """Losses of the layers and regularizers."""
        seen = _layer_losses.get()
        return super().losses if seen is None else seen

    # --- Training ------------------------------------------------------------------------------

    def train_step(self, *args: Any) -> Any:
        """Keras's training step: `(data)` on TensorFlow and PyTorch, `(state, data)` on JAX."""
        return engines.run_train_step(self, self._step, *args)

    def _step(self, data):
        replicas = engines.num_replicas()
        if replicas > 1:
            raise ValueError(
                "`MetaModel` looks ahead with the gradients of a whole batch, and replicas have a "
                f"part of it each. Train it on one device. Received: {replicas} replicas"
            )
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        batch = _Batch(self, x, only_leaf(y), only_leaf(sample_weight))
        (y_pred, loss, updates), gradients, _ = engines.look_ahead(
            batch.forward,
            batch.virtual_loss,
            batch.loss,
            [variable.value for variable in self.trainable_variables],
            batch.learnt,
            batch.improve,
        )
        for variable, value in zip(batch.others, updates, strict=True):
            variable.assign(value)
        engines.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        self._loss_tracker.update_state(loss, sample_weight=size)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def own_variables_of_method(self) -> list[Any]:
        """Variables that the look ahead itself reads and assigns."""
        layers = [self.meta_samples, *([] if self.meta_state is None else [self.meta_state])]
        return [variable for layer in layers for variable in layer.variables]


class _Batch:
    """One training batch on its way through a step of a `MetaModel`."""

    def __init__(self, model, x, y, sample_weight):
        self.model, self.x, self.y, self.sample_weight = model, x, y, sample_weight
        self.method = model.method
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

    def forward(self, weights):
        with self._scope(weights, self.values, collect_losses=True) as scope:
            y_pred = self.model(self.x, training=True)
            losses = list(self.model.losses)
        return y_pred, losses, self._updates(scope)

    def virtual_loss(self, weights, outputs, learnt):
        # What it updates is dropped. Copies, as PyTorch updates some statistics in their memory.
        y_pred, _, values = outputs
        outputs = (y_pred, [], [ops.copy(value) for value in values])
        loss, _ = self._loss(weights, outputs, learnt, self.method.virtual_weight)
        return loss * self.scale

    def loss(self, weights, outputs, learnt):
        loss, updates = self._loss(weights, outputs, learnt, self.method.sample_weight)
        rest = (ops.stop_gradient(outputs[0]), ops.stop_gradient(loss), updates)
        return self.model.optimizer.scale_loss(loss), rest

    def _loss(self, weights, outputs, learnt, weight_of):
        y_pred, layer_losses, values = outputs
        model, method = self.model, self.method
        with self._scope(weights, values) as scope:
            losses, given = self._losses(y_pred)
            # A bad row must spoil neither the weights of the others nor hide behind a weight of 0.
            is_bad = ops.isnan(losses)
            usual = weight_of(learnt, _zero_where(is_bad, losses), _zero_where(is_bad, given))
            # Keras's own losses multiply by the weight, and NaN would reach the model.
            has_law = model._plan.outputs[0].loss is not None
            weight = ops.where(is_bad, math.nan if has_law else given, usual)
            with (
                _set(_layer_losses, layer_losses),
                adapted_context(lambda context: method.adapt(context, learnt)),
            ):
                loss = model.compute_loss(self.x, self.y, y_pred, weight, training=True)
        return loss, self._updates(scope)

    def _losses(self, y_pred):
        """Cross-entropy of each sample, NaN for a bad one, and the weights that were given."""
        logits = keras.tree.flatten(y_pred)[0]
        samples = read_samples(self.model, self.y, logits, self.sample_weight)
        losses = ops.stop_gradient(samples.to_output(crossentropy(samples)))
        leading = tuple(logits.shape)[:-1]
        given = spread_weight(self.sample_weight, leading, samples.shape, "float32")
        given = ops.ones_like(losses) if given is None else given
        counted = samples.counted_in_output()
        if counted is not None:
            given = given * ops.cast(counted, "float32")
        return ops.cast(losses, "float32"), ops.cast(given, "float32")

    def improve(self, gradients, push):
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
