"""Plan of a compiled `LPLModel`: for each output its loss, its statistics and its head."""

import dataclasses
from typing import Any

import keras

from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.outputs import OutputForm, form_of, read_output
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor
from keras_lpl.models.head import Head


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a model.

    Attributes:
        index: Position among the flat outputs.
        name: Key of the output in dicts, and in the names of its metrics.
        prefix: In front of the names of its statistics; empty for the only output.
        tensor: The symbolic output.
        form: Its form, or None if it has no last axis of known size.
    """

    index: int
    name: str
    prefix: str
    tensor: Any
    form: OutputForm | None


@dataclasses.dataclass(frozen=True)
class OutputPlan:
    """Everything the compiled loss of one output asks for.

    Attributes:
        output: The output.
        loss: Its loss, if it is one of this package.
        needs: State that the loss reads.
        head: The last layer, if the loss reads it.
        statistics: Full names of its statistics, by the names the loss knows them by.
        confidence: Name of the confidence among them.
    """

    output: Output
    loss: ClassificationLoss | None = None
    needs: frozenset[str] = frozenset()
    head: Head | None = None
    statistics: dict[str, str] = dataclasses.field(default_factory=dict)
    confidence: str = "confidence"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plans of all outputs. A plain object, so that Keras does not track its parts.

    Attributes:
        outputs: One plan per output.
        twin: A model over the same layers that returns outputs and features, flat; or None.
        reads_progress: True if a loss reads the progress of training.
    """

    outputs: tuple[OutputPlan, ...] = ()
    twin: Any = None
    reads_progress: bool = False

    def find(self, name: str | None) -> OutputPlan:
        """The plan of the output of that name; of the only output if it is None."""
        for plan in self.outputs:
            if name in (plan.output.name, None) and (name or len(self.outputs) == 1):
                return plan
        names = [plan.output.name for plan in self.outputs]
        if name is not None:
            raise ValueError(
                f"The model has no output of that name: it has {names}. Received: output={name!r}"
            )
        raise ValueError(
            f"The model has {len(names)} outputs: pass `output=`, one of {names}. "
            f"Received: output={name!r}"
        )


def outputs_of(model: Any) -> tuple[Output, ...]:
    """The outputs of a functional model."""
    struct = getattr(model, "_outputs_struct", model.outputs)
    keys = {id(tensor): key for key, tensor in struct.items()} if isinstance(struct, dict) else {}
    names = [
        str(keys.get(id(tensor), name))
        for tensor, name in zip(model.outputs, model.output_names, strict=True)
    ]
    is_only = len(names) == 1
    outputs = []
    for index, (name, tensor) in enumerate(zip(names, model.outputs, strict=True)):
        has_form = len(tensor.shape) >= 2 and tensor.shape[-1] is not None
        prefix = "" if is_only else f"{name.replace('/', '_')}_"
        form = form_of(tensor.shape) if has_form else None
        outputs.append(Output(index, name, prefix, tensor, form))
    return tuple(outputs)


def losses_of(loss: Any, outputs: tuple[Output, ...], output_names: list[str]) -> list[Any]:
    """The loss of each output, as `keras.Model.compile` spreads them; None where it has none."""
    if isinstance(loss, dict):
        by_layer = dict(zip(output_names, range(len(outputs)), strict=False))
        found: list[Any] = [None] * len(outputs)
        for key, value in loss.items():
            for output in outputs:
                if output.name == key or by_layer.get(key) == output.index:
                    found[output.index] = value
        return found
    if isinstance(loss, (list, tuple)):
        flat = list(keras.tree.flatten(loss))
        return flat if len(flat) == len(outputs) else [None] * len(outputs)
    return [loss] * len(outputs)


def part_of(value: Any, output: Output, outputs: tuple[Output, ...], name: str) -> Any:
    """The part of labels or weights that belongs to an output.

    Args:
        value: A tensor for the only output; else a list, or a dict by output.
        output: The output.
        outputs: All outputs.
        name: What to call the value in an error.
    """
    if isinstance(value, dict):
        return value.get(output.name)
    if isinstance(value, (list, tuple)) and len(value) == len(outputs):
        return value[output.index]
    if value is None or len(outputs) == 1:
        return value
    raise ValueError(
        f"The model has {len(outputs)} outputs, so `{name}` must be a list or a dict with one "
        f"entry for each. Received: {name} of type {type(value).__name__}"
    )


def read_samples(model: Any, y: Any, logits: Tensor, sample_weight: Any = None) -> Samples:
    """A batch of a model of one output, as its loss reads it if that is one of this package."""
    loss = only_loss(model)
    if isinstance(loss, ClassificationLoss):
        return loss.read(y, logits, sample_weight)
    return read_output(y, logits, sample_weight)


def only_loss(model: Any) -> Any:
    """The loss of a model of one output, out of the list or dict it may be in."""
    flat = keras.tree.flatten(getattr(model, "loss", None))
    return flat[0] if len(flat) == 1 else None
