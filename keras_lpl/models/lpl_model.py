"""`LPLModel`: a `keras.Model` that carries the state perturbations need, and trains with it.

One training step:

    Keras's own `train_step`
      `call`          one forward pass: logits, and features if a perturbation asks for them
      `compute_loss`  fold the batch into the running statistics (detached)
                      lay out a `Context` for the loss
                      Keras's own `compute_loss`: weighting, reduction, regularizers
      loss scaling, gradients, optimizer, metrics: Keras's own, on each backend

Nothing of Keras's training step is written again here, so it is the same code for all backends.
"""

import contextvars
import dataclasses
import inspect

import keras
import numpy as np
from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl.layers.running_statistics import ClassWeight, RunningClassConfidence
from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.losses.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.models.head import (
    Head,
    check_logits,
    find_head,
    output_layer,
    symbolic_tensors,
)
from keras_lpl.models.progress import ProgressCallback, TrainingProgress
from keras_lpl.perturbations.base import register
from keras_lpl.perturbations.context import Context, context_scope

# Takes the features of the training step being traced or run from `call` to `compute_loss`: a list
# that `call` appends to. A context variable, as replicas run in threads; gone when the step is.
_step_features = contextvars.ContextVar("keras_lpl_step_features", default=None)


@register
class LPLModel(keras.Model):
    """A `keras.Model` that gives its loss what a batch alone cannot.

    Built like a functional `keras.Model`, or from an existing model of any kind (`from_model`). Its
    one output is the logits, `(batch, num_classes)`.

    Trained with a loss of this package such as `keras_lpl.LPLLoss`, it

    - keeps the running confidence of each class over training (`confidence`, Eq. 13), and the
      other statistics that the loss asks for; they are saved and restored with it;
    - applies the loss in training only: `evaluate` and `val_loss` are plain cross-entropy of raw
      logits (plus the model's regularizers, as in Keras), and touch no state;
    - hands penultimate features, the head's kernel and the training progress to the loss.

    With any other loss it trains like `keras.Model`. `predict` returns raw logits.

    Args:
        inputs: Input tensor(s), as in `keras.Model`.
        outputs: The logits, `(batch, num_classes)`.

    Raises:
        ValueError: if there is more than one output, its shape is not that of logits, or the
            model ends in a softmax.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.LPLLoss())
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    >>> model.confidence.shape == (3,)
    True
    """

    # Keras takes a model for a functional one at load only if the constructor reads like this.
    def __init__(self, *args, **kwargs):
        if not args and not {"inputs", "outputs"} <= set(kwargs):
            raise TypeError(
                "`LPLModel` is built from tensors, `LPLModel(inputs, outputs)`, or from a model. "
                "To train a model with a `call` of your own, derive it from `keras.Model`, call it "
                "on a batch, and wrap it: `keras_lpl.LPLModel.from_model(model)`. "
                f"Received: no inputs and outputs for {type(self).__name__}"
            )
        super().__init__(*args, **kwargs)
        if len(self.outputs) != 1:
            raise ValueError(
                "`LPLModel` needs one output, the logits. Move other outputs to a model of their "
                f"own over the same layers. Received: {len(self.outputs)} outputs"
            )
        check_logits(self.outputs[0])
        self._num_classes = self.outputs[0].shape[-1]
        self.statistics = _Statistics(name="statistics")
        self.statistics.add("confidence", RunningClassConfidence(self._num_classes))
        self.statistics.add("class_weight", ClassWeight(self._num_classes))
        self._reweights_classes = False
        self._plan = _Plan()

    @classmethod
    def from_model(cls, model, **kwargs):
        """Wraps a model: the same layers and weights, trained through `LPLModel`.

        Args:
            model: A functional or Sequential model, or a subclassed one that has been called or
                built. It ends in logits. Compile the result anew.
            **kwargs: Passed on to the constructor, e.g. `name`.

        Returns:
            An `LPLModel`.

        Raises:
            ValueError: if the model's input shape is not known yet, or as the constructor.

        Example:

        >>> base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> model = keras_lpl.LPLModel.from_model(base)
        >>> model.layers[-1] is base.layers[-1]
        True
        """
        kwargs.setdefault("name", model.name)
        inputs, outputs = symbolic_tensors(model)
        return cls(inputs, outputs, **kwargs)

    @property
    def confidence(self):
        """Running confidence of each class over training, `(num_classes,)` (Eq. 13).

        `1 / num_classes` for a class that has not occurred yet.
        """
        return self.statistics.get("confidence").confidence

    # --- Compiling: create what the loss asks for --------------------------------------------

    def compile(self, *args, **kwargs):
        """Configures training, as `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        losses = [x for x in keras.tree.flatten(self.loss) if isinstance(x, ClassificationLoss)]
        loss = losses[0] if losses else None
        needs = frozenset() if loss is None else frozenset(loss.all_needs())
        head = find_head(self) if needs & {"features", "kernel"} else None
        created = {"progress": TrainingProgress()} if "progress" in needs else {}
        if loss is not None:
            num_features = None if head is None else head.num_features
            created |= loss.create_statistics(self._num_classes, num_features)
            loss.check_head(output_layer(self.outputs[0]))
        for name, statistic in created.items():
            self.statistics.add(name, statistic)
        # Statistics that an earlier loss asked for stay, and rest.
        names = ("confidence", *created)
        self._plan = _Plan(loss, needs, head, names)

    def compile_from_config(self, config):
        """Compiles a loaded model; Keras leaves that to models with a `compile` of their own."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # --- Training: Keras's own step, with a context laid out for the loss --------------------

    def fit(self, *args, **kwargs):
        """Trains the model, as `keras.Model.fit`."""
        if "progress" in self._plan.needs:
            call = inspect.signature(super().fit).bind(*args, **kwargs)
            callback = ProgressCallback(self.statistics.get("progress"))
            callbacks = call.arguments.get("callbacks")
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.append(callback)
                callback.set_params(callbacks.params)
            else:
                given = [] if callbacks is None else keras.tree.flatten(callbacks)
                call.arguments["callbacks"] = [*given, callback]
            args, kwargs = call.args, call.kwargs
        return super().fit(*args, **kwargs)

    def train_step(self, *args):
        """Keras's training step, which may look at the features on its way.

        `(data)` on TensorFlow and torch, `(state, data)` on JAX.
        """
        if self._plan.head is None:
            return super().train_step(*args)
        token = _step_features.set([])
        try:
            return super().train_step(*args)
        finally:
            _step_features.reset(token)

    def call(self, inputs, training=None, mask=None, **kwargs):
        """The logits of `inputs`, `(batch, num_classes)`."""
        seen = _step_features.get()
        if seen is None or self._plan.head is None:
            return super().call(inputs, training=training, mask=mask, **kwargs)
        logits, features = self._plan.head.twin.call(inputs, training=training, mask=mask, **kwargs)
        seen.append(features)
        return logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss: the compiled one in training, plain cross-entropy in evaluation."""
        # Statistics are of the samples as the user weighs them: class weights would distort counts.
        loss_weight = sample_weight
        if training and self._reweights_classes:
            loss_weight = self._with_class_weight(y, y_pred, sample_weight)
        if not training or self._plan.loss is None:
            batch, context = None, Context(training=False)
        else:
            batch, features = self._detached(y, y_pred, sample_weight)
            self._update_statistics(batch, after_loss=False)
            context = self._context(features)
        with context_scope(context):
            loss = super().compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=loss_weight, training=training
            )
        if batch is not None:
            self._update_statistics(batch, after_loss=True)
        return loss

    def perturb_on_batch(self, x, y, sample_weight=None):
        """The logits of a batch, and the perturbed ones that the loss would train on.

        Looks without touching: no state changes, no dropout. For pictures and for debugging.

        Args:
            x: Input data, one batch.
            y: Labels, as for the loss.
            sample_weight: `(batch,)` or None.

        Returns:
            `(logits, perturbed)`, NumPy arrays of shape `(batch, num_classes)`.

        Raises:
            ValueError: if no `keras_lpl.PerturbedCrossentropy` loss is compiled.
        """
        if not isinstance(self._plan.loss, PerturbedCrossentropy):
            raise ValueError(
                "`perturb_on_batch` shows what the loss does to the logits: compile the model with "
                f"a `keras_lpl.PerturbedCrossentropy` loss. Received: loss={self.loss!r}"
            )
        head, features = self._plan.head, None
        if head is None:
            logits = self.predict_on_batch(x)
        else:
            logits, features = head.twin.predict_on_batch(x)
        context = self._context(features).replace(sample_weight=sample_weight)
        return logits, ops.convert_to_numpy(self._plan.loss.perturb(y, logits, context))

    def _detached(self, y, y_pred, sample_weight):
        """What statistics see of a training batch, and its features, attached, for the loss."""
        logits = ops.stop_gradient(ops.cast(y_pred, "float32"))
        labels = checks.labels(_single(y, "y"), logits)
        seen = _step_features.get()
        features = ops.cast(seen[-1], "float32") if seen else None
        detached = None if features is None else ops.stop_gradient(features)
        return (labels, logits, detached, _single(sample_weight, "sample_weight")), features

    def _update_statistics(self, batch, after_loss):
        for name in self._plan.statistics:
            statistic = self.statistics.get(name)
            if statistic.updates_after_loss == after_loss:
                statistic.update(*batch)

    def _context(self, features):
        """What the model knows now."""
        plan = self._plan
        statistics = {name: self.statistics.get(name) for name in plan.statistics}
        confidence, progress = statistics["confidence"], statistics.get("progress")
        kernel = None if plan.head is None else ops.convert_to_tensor(plan.head.layer.kernel)
        return Context(
            confidence=confidence.confidence,
            confidence_weight=ops.convert_to_tensor(confidence.weight),
            features=features,
            kernel=None if kernel is None else ops.cast(kernel, "float32"),
            progress=None if progress is None else ops.convert_to_tensor(progress.value),
            statistics=statistics,
        )

    # --- Class weights that a callback may change while training goes on ---------------------

    @property
    def class_weight(self):
        """`(num_classes,)`: what `reweight_classes` has set, else ones."""
        return ops.convert_to_tensor(self.statistics.get("class_weight").value)

    def reweight_classes(self, class_weight):
        """Multiplies the loss of each training sample by the weight of its class, from now on.

        Whatever the loss. The first call compiles the training step once more; later ones change
        a variable.

        Args:
            class_weight: `(num_classes,)`, or None to train without weights again. Soft labels
                get the mean weight of their classes.
        """
        reweights = class_weight is not None
        if reweights != self._reweights_classes:
            self._reweights_classes = reweights
            self.train_function = None
        ones = np.ones(self._num_classes)
        self.statistics.get("class_weight").value.assign(class_weight if reweights else ones)

    def _with_class_weight(self, y, y_pred, sample_weight):
        membership = functional.class_membership(checks.labels(_single(y, "y"), y_pred), y_pred)
        weight = ops.sum(ops.cast(membership, "float32") * self.class_weight, axis=-1)
        given = _single(sample_weight, "sample_weight")
        if given is None:
            return weight
        return weight * ops.reshape(ops.cast(given, "float32"), (-1,))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the compiled loss asks for. A plain object, so that Keras does not track its parts."""

    loss: ClassificationLoss | None = None
    needs: frozenset = frozenset()
    head: Head | None = None
    statistics: tuple = ()


class _Statistics(keras.layers.Layer):
    """The running statistics of a model, by name.

    An attribute for each, as Keras saves attributes by name: statistics find their values again
    whatever the order of the perturbations.
    """

    def __init__(self, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.built = True

    def add(self, name, statistic):
        """Adds a statistic, unless one of that name is there: that one goes on."""
        existing = self.get(name)
        if existing is None:
            setattr(self, f"running_{name}", statistic)
        else:
            existing.take_settings(statistic)

    def get(self, name):
        """The statistic of that name, or None."""
        return getattr(self, f"running_{name}", None)


def _single(tensor, name):
    """The one tensor of a model with one output."""
    flat = [x for x in keras.tree.flatten(tensor) if x is not None]
    if len(flat) > 1:
        raise ValueError(
            f"`LPLModel` has one output, so `{name}` must be one array. Received: {len(flat)}"
        )
    return flat[0] if flat else None
