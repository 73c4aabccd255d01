"""State of an `LPLModel`: its running statistics, and each loss's access to them in a step."""

import contextlib
import contextvars
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core.context import Context, Scope
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor
from keras_lpl.models.plan import OutputPlan

# Changes the context of a step, for models that learn a part of it.
_adapt: contextvars.ContextVar[Callable[[Context], Context] | None] = contextvars.ContextVar(
    "keras_lpl_adapt", default=None
)


@contextlib.contextmanager
def adapted_context(adapt: Callable[[Context], Context]) -> Iterator[None]:
    """Changes the context of the losses that are computed inside the `with` block."""
    token = _adapt.set(adapt)
    try:
        yield
    finally:
        _adapt.reset(token)


class OutputScope(Scope):
    """Access of one output's loss to its model, during one step."""

    def __init__(
        self, model: Any, plan: OutputPlan, features: Tensor | None, training: bool
    ) -> None:
        super().__init__(Context(training=training))
        self.model = model
        self.plan = plan
        self.features = features
        if training and plan.output.name in model.reweighted_outputs:
            self.class_weight = ops.convert_to_tensor(model.class_weight_of(plan).value)

    def begin(self, samples: Samples) -> Context:
        if not self.context.training:
            return self.context
        self._update(samples, after_loss=False)
        return self.state()

    def end(self, samples: Samples) -> None:
        if self.context.training:
            self._update(samples, after_loss=True)

    def _update(self, samples, after_loss):
        statistics = [self.model.statistics.get(name) for name in self.plan.statistics.values()]
        due = [each for each in statistics if each.updates_after_loss == after_loss]
        if due:
            samples = samples.detached()
        for statistic in due:
            statistic.update(samples)

    def state(self) -> Context:
        """State of training as the model knows it now."""
        plan, statistics = self.plan, self.model.statistics
        confidence = statistics.get(plan.confidence)
        progress = statistics.get("progress") if "progress" in plan.needs else None
        reads_confidence = "confidence" in plan.needs
        context = Context(
            confidence=confidence.confidence if reads_confidence else None,
            confidence_weight=(
                ops.convert_to_tensor(confidence.weight) if reads_confidence else None
            ),
            kernel=None if plan.head is None else plan.head.kernel(),
            progress=None if progress is None else ops.convert_to_tensor(progress.value),
            statistics={name: statistics.get(full) for name, full in plan.statistics.items()},
        )
        adapt = _adapt.get()
        return context if adapt is None else adapt(context)


class Statistics(keras.layers.Layer):
    """The running statistics of a model, by name.

    An attribute for each, as Keras saves attributes by name: statistics find their values again
    whatever the order of the perturbations.

    Also saves the state of the model's random numbers, those of dropout for one, which Keras does
    not: a resumed training goes on with them.

    Args:
        seeds: Function without arguments that returns the states of the model's seed generators.
    """

    def __init__(self, seeds: Callable[[], list[Any]], **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self._seeds = seeds
        self._names: tuple[str, ...] = ()
        self.built = True

    def add(self, name: str, statistic: Any) -> None:
        """Adds a statistic, unless one of that name is there: that one goes on."""
        existing = self.get(name)
        if existing is None:
            setattr(self, f"running_{name}", statistic)
            self._names = (*self._names, name)
        elif hasattr(existing, "take_settings"):
            existing.take_settings(statistic)

    def save_own_variables(self, store: Any) -> None:
        """Saves the names of the statistics, beside the values that they save themselves."""
        store["names"] = np.frombuffer("\n".join(self._names).encode(), dtype="uint8")
        seeds = [ops.convert_to_numpy(seed) for seed in self._seeds()]
        if seeds:
            store["seeds"] = np.stack(seeds).astype("int64")

    def load_own_variables(self, store: Any) -> None:
        """Loads random states; warns of statistics that only the file has, or only the model."""
        keys = list(store.keys())
        if "seeds" in keys:
            saved_seeds, seeds = np.asarray(store["seeds"]), self._seeds()
            if len(saved_seeds) == len(seeds):  # those of another model mean nothing here
                for seed, value in zip(seeds, saved_seeds, strict=True):
                    seed.assign(value)
        if "names" not in keys:  # a plain model, or version 0.1
            return
        saved = bytes(np.asarray(store["names"])).decode().split("\n")
        lost = sorted(set(saved) - set(self._names) - {""})
        if lost:
            warnings.warn(
                "The file has running statistics that this model does not: they belong to a loss "
                "it is not compiled with, and are lost. Load the model with its compiled loss "
                "(`keras.saving.load_model(path)`), or compile it before `load_weights`. "
                f"Received: {', '.join(lost)}",
                stacklevel=2,
            )
        new = sorted(set(self._names) - set(saved))
        if new:
            warnings.warn(
                "The file has no running statistics of some that this model's loss reads; they "
                f"start anew. Received: {', '.join(new)}",
                stacklevel=2,
            )

    def get(self, name: str) -> Any:
        """The statistic of that name, or None."""
        return getattr(self, f"running_{name}", None)
