"""`MetaModel`: an `LPLModel` whose training step looks ahead.

One training step, with `w` the trainable weights and `t` what the method learns:

    forward pass            of the training batch
    g = grad_w L(w; t)      of the loss as the method weights or changes it
    w' = w - a g            the virtual step, plain gradient descent, as long as the optimizer's
    d = grad_w' L_meta(w')  cross-entropy of a batch of clean, balanced samples
    -a grad_t (g . d)       its gradient by `t`: one product of the mixed derivative with a vector
    t <- improved by it     as the method says
    grad_w L(w; t)          at `w`, where the forward pass was; the optimizer's own step

Momentum, weight decay, regularizers and clipping belong to the last line alone, as in the code of
the authors of Meta-Weight-Net and MetaSAug.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.meta_method import MetaMethod
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.meta_weight_net import MetaWeightNet, weight_of_loss
from keras_lpl.models.head import check_logits, symbolic_tensors
from keras_lpl.models.lpl_model import LPLModel, only_leaf
from keras_lpl.models.meta_batch import MetaBatch, layer_losses
from keras_lpl.models.meta_samples import make_meta_samples
from keras_lpl.models.numbered import check_numbers, labels_and_numbers
from keras_lpl.models.plan import only_loss, outputs_of


@register
class MetaModel(LPLModel):
    """An `LPLModel` that learns from a few clean, balanced samples how to train on the others.

    Each training step looks one step ahead, and improves what the method learns: the net of
    `MetaWeightNet`, the weights of `LearningToReweight`, the covariances of `MetaSAug`, the nets of
    `MetaLabelCorrector`. The virtual step is plain gradient descent, without momentum, weight decay
    and regularizers, as in the authors' code.

    A step takes a bit more than three times as long as one of `LPLModel`. Prediction and evaluation
    are those of `LPLModel`.

    Args:
        inputs: Input tensors, as in `keras.Model`.
        outputs: Logits, as in `LPLModel`; one output.
        method: `keras_lpl.models.MetaWeightNet` (default), `LearningToReweight`, `MetaSAug` or
            `MetaLabelCorrector`.
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
                "`LearningToReweight()`, `MetaSAug()` or `MetaLabelCorrector(num_samples)`. "
                f"Received: method={method!r}"
            )
        self.meta_samples = make_meta_samples(self, meta_data, meta_batch_size)
        form = outputs_of(self)[0].form
        self.meta_state = self.method.create_state(0 if form is None else form.num_classes)
        for layer in (self.meta_samples, self.meta_state):
            if layer is not None:
                self._keep_state_of(layer)
        corrections = self.method.corrections(self.meta_state)
        if corrections is not None and tuple(self.outputs[0].shape[1:]) != corrections.shape[1:]:
            raise ValueError(
                f"`{type(self.method).__name__}` corrects one label per sample: the model ends in "
                "logits (batch, classes) of two classes or more. "
                f"Received: an output of shape {tuple(self.outputs[0].shape)}"
            )
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

    def corrected_labels(self) -> np.ndarray:
        """What `MetaLabelCorrector` has corrected the label of each training sample to.

        Returns:
            Soft labels `(samples, classes)`; rows of zeros belong to samples that were not yet
            trained with.

        Raises:
            ValueError: if the model's method is another one.
        """
        corrections = self.method.corrections(self.meta_state)
        if corrections is None:
            raise ValueError(
                "Only `MetaLabelCorrector` corrects labels. "
                f"Received: method={type(self.method).__name__}"
            )
        return ops.convert_to_numpy(corrections)[:-1]

    @property
    def losses(self) -> list[Tensor]:
        """Losses of the layers and regularizers."""
        seen = layer_losses.get()
        return super().losses if seen is None else seen

    # --- Training ------------------------------------------------------------------------------

    def _follows_schedule(self) -> bool:
        """True where labels are corrected after a warm-up."""
        return self.method.follows_schedule

    def _check_fit(self, arguments: dict[str, Any]) -> None:
        """Checks what `fit` was given: labels without the numbers of their samples."""
        y = arguments.get("y")
        corrections = self.method.corrections(self.meta_state)
        if corrections is not None and arguments.get("class_weight") is not None:
            raise ValueError(
                "Keras would read `class_weight` by the largest number in a row of labels. Take "
                "the callback `keras_lpl.callbacks.DeferredReweighting(class_counts, "
                "start_epoch=0, class_weight=[...])`. Received: class_weight for numbered labels"
            )
        if corrections is not None and hasattr(y, "shape"):
            y, numbers = labels_and_numbers(y)
            check_numbers(numbers, corrections.shape[0] - 1)
        super()._check_fit({**arguments, "y": y})

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """The loss; labels to evaluate may come with the numbers of their samples."""
        return super()._loss_of(x, self._without_numbers(y), y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Metrics, of labels as they were given."""
        return super().compute_metrics(x, self._without_numbers(y), y_pred, sample_weight)

    def _without_numbers(self, y):
        corrections = self.method.corrections(self.meta_state)
        if corrections is None:
            return y
        return labels_and_numbers(only_leaf(y), needs_numbers=False)[0]

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
        batch = MetaBatch(self, x, only_leaf(y), only_leaf(sample_weight))
        (y_pred, loss, updates), gradients, learnt = engines.look_ahead(
            batch.forward,
            batch.virtual_loss,
            batch.loss,
            [variable.value for variable in self.trainable_variables],
            batch.learnt,
            batch.improve,
        )
        for variable, value in zip(batch.others, updates, strict=True):
            variable.assign(value)
        batch.keep_corrections(learnt, y_pred)
        engines.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        self._loss_tracker.update_state(loss, sample_weight=size)
        return self.compute_metrics(x, batch.y, y_pred, sample_weight)

    def own_variables_of_method(self) -> list[Any]:
        """Variables that the look ahead itself reads and assigns."""
        layers = [self.meta_samples, *([] if self.meta_state is None else [self.meta_state])]
        return [variable for layer in layers for variable in layer.variables]
