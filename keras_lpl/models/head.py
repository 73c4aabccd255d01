"""Looks into models: inputs and outputs, the last layer's kernel, and the features it reads."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_lpl.core.last_layer import output_layer, probability_of
from keras_lpl.core.outputs import find_probabilities
from keras_lpl.core.typing import Tensor


def symbolic_tensors(model: Any) -> tuple[Any, Any]:
    """Inputs and outputs of a model as symbolic tensors, to build another one over its layers.

    Args:
        model: A functional or Sequential model, or a subclassed one that has been called or built.

    Returns:
        `(inputs, outputs)` in the structure of the model: a single tensor, a list or a dict.

    Raises:
        ValueError: if the model's input shape is not known yet.
    """
    if getattr(model, "inputs", None):
        # The structure matters to those who pass a dict; `inputs` and `outputs` are flat.
        inputs = getattr(model, "_inputs_struct", None)
        if inputs is None:  # of a Sequential model; Keras warns if a list of one gets a tensor
            inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
        outputs = getattr(model, "_outputs_struct", model.outputs)
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            outputs = outputs[0]
        return inputs, outputs
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, (tuple, list)) or not all(
        size is None or isinstance(size, int) for size in shape
    ):
        raise ValueError(
            "The model's input shape must be known. Call the model on a batch, or "
            "`model.build((None, ...))`, first; a subclassed model with several inputs must be "
            "wrapped in a functional one, `keras.Model(inputs, model(inputs))`. Received: "
            f"{model.name!r}, built={model.built}, input shape {shape}"
        )
    inputs = keras.Input(batch_shape=(None, *shape[1:]))
    return inputs, model(inputs)


def check_logits(output: Any, who: str, inputs: Any = None, is_loss: bool = False) -> None:
    """Raises `ValueError` if `output` is one of probabilities.

    Args:
        output: A symbolic output of a model.
        who: What needs logits, for the message.
        inputs: The model's symbolic inputs: where the graph does not show what happens inside of a
            layer of a user's own, the model is called on zeros.
        is_loss: Whether `who` is a loss, which can be told that it gets probabilities.
    """
    found = probability_of(output)
    is_known = type(output_layer(output)).__module__.split(".")[0] in ("keras", "keras_lpl")
    if not found and not is_known and inputs is not None and _sums_to_one(inputs, output):
        found = "softmax"
    if found:
        name = getattr(output_layer(output), "name", output)
        other = "; or pass `from_logits=False` to the loss" if is_loss else ""
        raise ValueError(
            f"{who} needs logits, and this model ends in probabilities. Take the activation "
            "off its last layer, e.g. `Dense(num_classes)`, and apply softmax to what `predict` "
            f"returns{other}. Received: activation {found!r} of layer {name!r}"
        )


def _sums_to_one(inputs, output):
    """True if a model's output on zeros looks like probabilities."""

    def zeros(tensor):
        shape = [2, *(1 if size is None else size for size in tensor.shape[1:])]
        return ops.zeros(shape, dtype=tensor.dtype)

    try:
        values = keras.Model(inputs, output)(keras.tree.map_structure(zeros, inputs))
    except Exception:  # such a layer may refuse zeros, or sizes of 1
        return False
    return bool(find_probabilities(values))


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layer of an output: linear in the features it reads.

    Attributes:
        layer: A dense layer, or a convolution of kernel size 1.
        features: Its symbolic input, `(batch, ..., features)`.
    """

    layer: Any
    features: Any

    @property
    def num_features(self) -> int:
        """Number of features."""
        return self.layer.kernel.shape[-2]

    def kernel(self) -> Tensor:
        """Kernel of the classes, `(features, classes)`; for one logit `[0, w]`."""
        kernel = ops.convert_to_tensor(self.layer.kernel)
        kernel = ops.cast(ops.reshape(kernel, kernel.shape[-2:]), "float32")
        if kernel.shape[-1] == 1:
            kernel = ops.concatenate([ops.zeros_like(kernel), kernel], axis=-1)
        return kernel


def find_head(model: Any, output: Any) -> Head:
    """The `Head` of one output of a functional model.

    Raises:
        ValueError: if the output is not that of a layer with a kernel, within reach.
    """
    layer = output_layer(output)
    kernel: Any = getattr(layer, "kernel", None)
    # A head inside of a nested model has its input there, out of reach of this model's graph.
    is_reachable = any(candidate is layer for candidate in model.layers)
    is_linear = kernel is not None and all(size == 1 for size in kernel.shape[:-2])
    if is_linear and len(kernel.shape) > 2:
        is_linear = (
            getattr(layer, "groups", 1) == 1
            and getattr(layer, "data_format", None) != "channels_first"
            and set(_as_tuple(getattr(layer, "strides", 1))) == {1}
        )
    if not is_linear or not is_reachable or len(kernel.shape) < 2:
        raise ValueError(
            "The loss needs the features before the model's last layer and that layer's kernel, "
            "so the model must be functional and end in a layer such as `Dense(num_classes)`, or "
            "`Conv2D(num_classes, 1)`, of its own, not one inside of a nested model. Received: "
            f"{model.name!r}, ending in {getattr(layer, 'name', layer)!r} "
            f"of type {type(layer).__name__}"
        )
    return Head(layer, layer.input)


def _as_tuple(value):
    return value if isinstance(value, (tuple, list)) else (value,)
