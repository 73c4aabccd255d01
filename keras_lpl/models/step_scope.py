"""The scope of a training step, which takes features from the forward pass to the loss."""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import keras

from keras_lpl.core.typing import Tensor
from keras_lpl.models.plan import Plan

# Takes the features of a training step from `call` to `compute_loss`. A context variable, as
# replicas run in threads; gone when the step is.
_step: contextvars.ContextVar[dict[int, Tensor] | None] = contextvars.ContextVar(
    "keras_lpl_step", default=None
)


class StepScope:
    """The training step of an `LPLModel`, whose forward pass keeps the features losses ask for."""

    _plan: Plan
    outputs: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("train_step")
        if own is not None:
            setattr(cls, "train_step", _inside_step(own))  # noqa: B010

    @contextlib.contextmanager
    def training_step(self) -> Iterator[None]:
        """Scope of one training step: hands features from the forward pass to `compute_loss`.

        `train_step` opens it by itself, also one of your own in a subclass. Needed only around a
        step that is not in `train_step`:

        ```python
        with model.training_step(), tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = model.compute_loss(x, y, logits)
        ```
        """
        with self._step_with({}):
            yield

    @contextlib.contextmanager
    def _step_with(self, features: dict[int, Tensor]) -> Iterator[None]:
        """Scope of a training step whose forward pass has seen these features."""
        token = _step.set(features)
        try:
            yield
        finally:
            _step.reset(token)

    def _seen_features(self) -> dict[int, Tensor]:
        """Features that the forward pass of this step has seen, by the index of their output."""
        return dict(_step.get() or {})

    def train_step(self, *args: Any) -> Any:
        """Keras's training step: `(data)` on TensorFlow and PyTorch, `(state, data)` on JAX."""
        with self.training_step():
            return super().train_step(*args)  # type: ignore[misc]

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
        """Outputs of the model, in its structure."""
        step, plan = _step.get(), self._plan
        if step is None or plan.twin is None:
            return super().call(  # type: ignore[misc]
                inputs, training=training, mask=mask, **kwargs
            )
        results = plan.twin.call(inputs, training=training, mask=mask, **kwargs)
        outputs = self._keep_features(results)
        struct = getattr(self, "_outputs_struct", self.outputs)
        return keras.tree.pack_sequence_as(struct, outputs)

    def _is_in_step(self) -> bool:
        """True inside of a training step."""
        return _step.get() is not None

    def _keep_features(self, results: list[Tensor]) -> list[Tensor]:
        """Keeps the features that follow the outputs for `compute_loss`; returns the outputs."""
        step, features = _step.get(), iter(results[len(self.outputs) :])
        assert step is not None
        step.clear()
        for each in self._plan.outputs:
            if each.head is not None:
                step[each.output.index] = next(features)
        return results[: len(self.outputs)]


def _inside_step(train_step):
    """A user's `train_step`, run inside of the scope of a step."""

    @functools.wraps(train_step)
    def inside(self, *args, **kwargs):
        with self.training_step():
            return train_step(self, *args, **kwargs)

    return inside
