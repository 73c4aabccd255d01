"""`LPLModel`: a `keras.Model` that carries the state losses need, and trains with it.

One training step:

    Keras's own `train_step`
      `call`          one forward pass: outputs, and features if a loss asks for them
      `compute_loss`  lays out a scope for each output, then Keras's own `compute_loss`; in it
        each loss     reads its output as `Samples`
                      the scope folds them into the running statistics (detached)
                      and returns a `Context` for the perturbations
      loss scaling, gradients, optimizer, metrics: Keras's own, on each backend

Nothing of Keras's training step is written again here, so it is the same code for all backends.
The parts of the model that can be read by themselves are in files of their own:

    step_scope      features on their way from the forward pass to the loss
    output_access   outputs by name, and the perturbed logits of a batch
    reweighting     class weights that may change while training goes on
"""

import inspect
import pathlib
import warnings
from typing import Any

import keras

from keras_lpl.core import checks
from keras_lpl.core.context import Scope, scopes
from keras_lpl.core.last_layer import output_layer
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.outputs import form_of
from keras_lpl.core.registry import register
from keras_lpl.core.statistics import ClassWeight, RunningClassConfidence, TrainingProgress
from keras_lpl.core.typing import Tensor
from keras_lpl.models.before_training import check_class_weight, check_fit
from keras_lpl.models.head import check_logits, find_head, symbolic_tensors
from keras_lpl.models.output_access import OutputAccess
from keras_lpl.models.plan import OutputPlan, Plan, losses_of, outputs_of
from keras_lpl.models.progress import ProgressCallback
from keras_lpl.models.reweighting import ClassReweighting
from keras_lpl.models.state import OutputScope, Statistics
from keras_lpl.models.step_scope import StepScope

# Methods of a user's model that a wrapper of its layers would not run.
_LOST = ("train_step", "test_step", "compute_loss")


@register
class LPLModel(StepScope, OutputAccess, ClassReweighting, keras.Model):
    """A `keras.Model` that gives its losses what a batch alone cannot.

    Built like a functional `keras.Model`, or from an existing model of any kind (`from_model`). Its
    outputs are logits: `(batch, ..., classes)`, `(batch, ..., 1)` for two classes, or
    `(batch, ..., labels)` with a loss of `multi_label=True`. It may have several, in a list or a
    dict, each with a loss of its own; outputs with other losses train as in Keras.

    Trained with a loss of this package such as `keras_lpl.LPLLoss`, it

    - keeps the running confidence of each class over training (`confidence`, Eq. 13), and the
      other statistics that the loss asks for; they are saved and restored with it;
    - applies the loss in training only: `evaluate` and `val_loss` are plain cross-entropy of raw
      logits (plus the model's regularizers, as in Keras), and touch no state;
    - hands penultimate features, the head's kernel and the training progress to the loss.

    With any other loss it trains like `keras.Model`. `predict` returns raw logits.

    A training step of your own goes into a subclass: override `train_step`, and call the model and
    `compute_loss` in it as in Keras's guide. Outside of `train_step`, do so inside of
    `with model.training_step():`.

    Args:
        inputs: Input tensors, as in `keras.Model`.
        outputs: Logits: a tensor, or a list or dict of them.

    Raises:
        ValueError: when compiled, if an output does not fit its loss.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.LPLLoss())
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    >>> model.confidence.shape == (3,)
    True
    """

    # Keras takes a model for a functional one at load only if the constructor reads like this.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) == 1 and isinstance(args[0], keras.Model) and "outputs" not in kwargs:
            raise TypeError(
                "A model is wrapped by `keras_lpl.LPLModel.from_model(model)`; "
                "`LPLModel(inputs, outputs)` takes tensors. "
                f"Received: {args[0].name!r} of type {type(args[0]).__name__}"
            )
        if not args and not {"inputs", "outputs"} <= set(kwargs):
            raise TypeError(
                "`LPLModel` is built from tensors, `LPLModel(inputs, outputs)`, or from a model. "
                "To train a model with a `call` of your own, derive it from `keras.Model`, call it "
                "on a batch, and wrap it: `keras_lpl.LPLModel.from_model(model)`. "
                f"Received: no inputs and outputs for {type(self).__name__}"
            )
        super().__init__(*args, **kwargs)
        self.statistics = Statistics(self._seeds, name="statistics")
        self._keep_state_of(self.statistics)
        self.reweighted_outputs: frozenset[str] = frozenset()
        self._has_progress = False
        plans = []
        for output in outputs_of(self):
            if output.form is not None:
                shape = output.form.shape_by_class
                self.statistics.add(f"{output.prefix}confidence", RunningClassConfidence(shape))
                self.statistics.add(f"{output.prefix}class_weight", ClassWeight(shape))
            plans.append(OutputPlan(output, confidence=f"{output.prefix}confidence"))
        self._plan = Plan(tuple(plans))

    def _keep_state_of(self, layer: Any) -> None:
        """Makes the variables of a layer that is an attribute those of the model.

        Before Keras 3.14, a functional model tracks no layer that is added later, and JAX would
        lose the state.
        """
        layers: list[Any] = getattr(self, "_layers", [])
        if all(each is not layer for each in layers):
            setattr(self, "_layers", [*layers, layer])  # noqa: B010

    @classmethod
    def from_model(cls, model: keras.Model, **kwargs: Any) -> "LPLModel":
        """Wraps a model: the same layers and weights, trained through `LPLModel`.

        Args:
            model: A functional or Sequential model, or a subclassed one that has been called or
                built. It ends in logits. Compile the result anew.
            **kwargs: Passed on to the constructor, e.g. `name`.

        Returns:
            An `LPLModel`.

        Raises:
            ValueError: if the model's input shape is not known yet, or if it has a `train_step`,
                `test_step` or `compute_loss` of its own, which the wrapper would not run.

        Example:

        >>> base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> model = keras_lpl.LPLModel.from_model(base)
        >>> model.layers[-1] is base.layers[-1]
        True
        """
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`from_model` takes a Keras model, built or called once. "
                f"Received: {model!r} of type {type(model).__name__}"
            )
        for name in _LOST:
            module = getattr(getattr(type(model), name), "__module__", "") or ""
            if module.split(".")[0] not in ("keras", "keras_lpl"):
                raise ValueError(
                    f"`{type(model).__name__}` has a `{name}` of its own, which would be lost: "
                    "`from_model` takes over layers and weights. Derive your class from "
                    "`keras_lpl.LPLModel` and build it from tensors instead; call "
                    "`self.compute_loss(x, y, y_pred, sample_weight)` in its `train_step`. "
                    f"Received: {type(model).__name__}.{name}"
                )
        kwargs.setdefault("name", model.name)
        inputs, outputs = symbolic_tensors(model)
        return cls(inputs, outputs, **kwargs)

    @property
    def confidence(self) -> Any:
        """Running confidence of each class over training (Eq. 13).

        `(classes,)`, or `(labels, 2)` for several labels; of several outputs, a dict of these by
        the output's name, those with a loss of this package. `1 / classes` for a class that has not
        occurred yet.
        """
        plans = self._plan.outputs
        if any(plan.loss is not None for plan in plans):
            plans = tuple(plan for plan in plans if plan.loss is not None)
        found = {
            plan.output.name: self.statistics.get(plan.confidence).confidence
            for plan in plans
            if self.statistics.get(plan.confidence) is not None
        }
        return found if len(self._plan.outputs) > 1 else next(iter(found.values()))

    def _seeds(self):
        """States of the seed generators of all layers."""
        return [variable for variable in self.variables if variable.name == "seed_generator_state"]

    # --- Compiling: create what the losses ask for ---------------------------------------------

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training, as `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        outputs = outputs_of(self)
        if isinstance(self.loss, (dict, list, tuple)):
            _check_distinct(outputs)
        plans = tuple(
            self._plan_of(output, loss)
            for output, loss in zip(
                outputs, losses_of(self.loss, outputs, self.output_names), strict=True
            )
        )
        needs_progress = any("progress" in plan.needs for plan in plans)
        reads_progress = needs_progress or self._follows_schedule()
        if reads_progress:
            self.statistics.add("progress", TrainingProgress())
        features = [plan.head.features for plan in plans if plan.head is not None]
        twin = None
        if features:
            twin = keras.Model(symbolic_tensors(self)[0], [*self.outputs, *features])
        # Statistics that an earlier loss asked for stay, and rest.
        self._plan = Plan(plans, twin, reads_progress)

    def _plan_of(self, output, loss):
        """Plans for one output, and creates its statistics."""
        if not isinstance(loss, ClassificationLoss):
            return OutputPlan(output, confidence=f"{output.prefix}confidence")
        if loss.from_logits:
            inputs, _ = symbolic_tensors(self)
            check_logits(output.tensor, f"`{type(loss).__name__}`", inputs, is_loss=True)
        form = form_of(output.tensor.shape, loss.multi_label)
        kind = "label_" if loss.multi_label else ""
        needs = frozenset(loss.all_needs())
        head = find_head(self, output.tensor) if needs & {"features", "kernel"} else None
        num_features = None if head is None else head.num_features
        created = {
            f"{kind}confidence": RunningClassConfidence(form.shape_by_class),
            **loss.create_statistics(form.shape_by_class, num_features),
        }
        loss.check_head(output_layer(output.tensor))
        for name, statistic in created.items():
            self.statistics.add(output.prefix + name, statistic)
        if loss.multi_label:
            weight = ClassWeight(form.shape_by_class)
            self.statistics.add(f"{output.prefix}label_class_weight", weight)
        names = {name: output.prefix + name for name in created}
        return OutputPlan(output, loss, needs, head, names, f"{output.prefix}{kind}confidence")

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model; Keras leaves that to models with a `compile` of their own."""
        config = keras.saving.deserialize_keras_object(config)
        reweighted = config.pop("reweighted_outputs", ())
        self.compile(**config)
        self.reweighted_outputs = frozenset(reweighted)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self) -> Any:
        """Config of `compile`, with the outputs whose classes are weighted."""
        config = super().get_compile_config()
        if config and self.reweighted_outputs:
            config["reweighted_outputs"] = sorted(self.reweighted_outputs)
        return config

    # --- Training: Keras's own step, with a scope laid out for each loss ------------------------

    def _follows_schedule(self) -> bool:
        """True if the model itself, not a loss of it, reads the progress of training."""
        return False

    def _check_fit(self, arguments: dict[str, Any]) -> None:
        """Checks what `fit` was given, by the names of its arguments."""
        check_fit(self._plan, arguments)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as `keras.Model.fit`."""
        call = inspect.signature(super().fit).bind(*args, **kwargs)
        self._check_fit(call.arguments)
        if self._plan.reads_progress:
            self._has_progress = True
            callback = ProgressCallback(self.statistics.get("progress"))
            callbacks = call.arguments.get("callbacks")
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.append(callback)
                callback.set_params(callbacks.params)
            else:
                call.arguments["callbacks"] = [*_callbacks_of(callbacks), callback]
            args, kwargs = call.args, call.kwargs
        try:
            return super().fit(*args, **kwargs)
        except BaseException:
            # Keras calls no callback now, and what one has set must not outlive `fit`.
            for callback in _callbacks_of(call.arguments.get("callbacks")):
                if hasattr(callback, "on_train_interrupted"):
                    callback.on_train_interrupted()
            raise

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Trains on one batch, as `keras.Model.train_on_batch`."""
        if kwargs.get("class_weight", args[3] if len(args) > 3 else None) is not None:
            check_class_weight(self._plan)
        if self._plan.reads_progress and not self._has_progress:
            self._has_progress = True  # told once
            names = [type(p.loss).__name__ for p in self._plan.outputs if "progress" in p.needs]
            names = names or [type(self).__name__]
            warnings.warn(
                f"`{' and '.join(names)}` follows a schedule over training, and `train_on_batch` "
                "does not know how much of training is done: the schedule stays at its start. Call "
                "`model.set_progress(share)` as training goes on, or train with `fit`.",
                stacklevel=2,
            )
        return super().train_on_batch(*args, **kwargs)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the model, as `keras.Model.save`.

        Raises:
            ValueError: for the old formats `.h5` and `.hdf5`, which lose the running statistics.
        """
        path = pathlib.PurePath(str(filepath))
        if path.suffix in (".h5", ".hdf5"):
            raise ValueError(
                f"A {path.suffix} file would come back without the model's running statistics. "
                f"Save it as '{path.with_suffix('.keras').name}'. Received: filepath='{path}'"
            )
        super().save(filepath, *args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Exports the model for inference, as `keras.Model.export`, without running statistics."""
        return keras.Model(*symbolic_tensors(self), name=self.name).export(*args, **kwargs)

    def set_progress(self, progress: float) -> None:
        """Sets the share of training that is done, for losses with a schedule.

        `fit` does so by itself; a loop of `train_on_batch` or a training loop of your own does not.

        Args:
            progress: Within [0, 1].

        Raises:
            ValueError: if no compiled loss follows a schedule, or for a share outside [0, 1].
        """
        progress = checks.number(progress, "progress", minimum=0, maximum=1)
        if not self._plan.reads_progress:
            raise ValueError(
                "Nothing of this model follows a schedule, so there is no progress to set. "
                f"Received: progress={progress}, loss={self.loss!r}"
            )
        self._has_progress = True
        self.statistics.get("progress").value.assign(progress)
        self.statistics.get("progress").per_step.assign(0.0)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss: the compiled one in training, plain cross-entropy in evaluation."""
        loss = self._loss_of(x, y, y_pred, sample_weight, training)
        if training and self._plan.reads_progress:
            self.statistics.get("progress").count_step()
        return loss

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """The loss of labels, for predictions that may be those of others too."""
        features = self._seen_features() if training else {}
        if not keras.tree.is_nested(y_pred):  # labels and weights named in a dict all the same
            y, sample_weight = only_leaf(y), only_leaf(sample_weight)
        flat = keras.tree.flatten(y_pred)
        of_outputs: dict[int | None, Scope] = {}
        for plan in self._plan.outputs:
            if plan.loss is not None:
                seen = features.get(plan.output.index)
                if training and plan.head is not None and seen is None:
                    raise _no_features(plan)
                of_outputs[id(flat[plan.output.index])] = OutputScope(self, plan, seen, training)
        if training and self.reweighted_outputs:
            sample_weight = self._reweighted(y, flat, y_pred, sample_weight)
        with scopes(of_outputs):
            return super().compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
            )


def _callbacks_of(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks.callbacks
    return [] if callbacks is None else keras.tree.flatten(callbacks)


def _check_distinct(outputs):
    """Raises unless every output is a tensor of its own, by which its loss finds its state."""
    if len({id(output.tensor) for output in outputs}) < len(outputs):
        raise ValueError(
            "Two outputs of the model are one tensor. Make them two, for example by "
            "`keras.layers.Identity()(tensor)`, so that each has a state of its own. Received: "
            f"outputs of the layers {[output_layer(o.tensor).name for o in outputs]}"
        )


def only_leaf(value: Any) -> Any:
    """The one tensor of a list or a dict of one; anything else as it is."""
    flat = keras.tree.flatten(value) if isinstance(value, (dict, list, tuple)) else []
    return flat[0] if len(flat) == 1 else value


def _no_features(plan):
    return ValueError(
        f"`{type(plan.loss).__name__}` reads the features before the last layer, which come "
        "from the model's own forward pass. Call the model and `compute_loss` in `train_step` (of "
        "a subclass, if it is your own), or inside of `with model.training_step():`. Received: a "
        "call of `compute_loss` outside of a training step"
    )
