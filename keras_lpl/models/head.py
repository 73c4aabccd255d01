"""Looks into models: inputs and outputs, the last layer's kernel, and the features it reads."""

import dataclasses

import keras

_PROBABILITIES = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "hard_sigmoid", "sparsemax"}


def symbolic_tensors(model):
    """Inputs and outputs of a model as symbolic tensors, to build another one over its layers.

    Args:
        model: A functional or Sequential model, or a subclassed one that has been called or built.

    Returns:
        `(inputs, outputs)`; `outputs` is a single tensor if there is one.

    Raises:
        ValueError: if the model's input shape is not known yet.
    """
    if getattr(model, "inputs", None):
        outputs = model.outputs
        # The structure matters to those who pass a dict of inputs; `inputs` is flat.
        inputs = getattr(model, "_inputs_struct", model.inputs)
        return inputs, outputs[0] if len(outputs) == 1 else outputs
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


def check_logits(output, who="`LPLModel`"):
    """Raises `ValueError` unless `output` is logits of shape `(batch, num_classes)`."""
    if len(output.shape) != 2 or output.shape[-1] is None or output.shape[-1] < 2:
        raise ValueError(
            f"{who} needs one output: logits of shape (batch, num_classes), with at least two "
            f"classes. Received: output of shape {tuple(output.shape)}"
        )
    layer = output_layer(output)
    activation = getattr(layer, "activation", None)
    found = {getattr(activation, "__name__", None), type(layer).__name__.lower()} & _PROBABILITIES
    if found:
        raise ValueError(
            f"{who} needs logits, and this model ends in probabilities. Take the activation "
            "off its last layer, e.g. `Dense(num_classes)`, and apply softmax to what `predict` "
            f"returns. Received: activation {found.pop()!r} of layer "
            f"{getattr(layer, 'name', layer)!r}"
        )


def output_layer(output):
    """The layer or operation that computes `output`, seen through casts and nested models."""
    operation = output._keras_history.operation
    if hasattr(operation, "outputs") and isinstance(operation, keras.Model):
        return output_layer(operation.outputs[0])
    if _passes_on(operation):
        return output_layer(operation.input)
    return operation


def _passes_on(operation):
    """Whether an operation returns its input: `Activation("linear", dtype="float32")` and such."""
    if isinstance(operation, keras.layers.Identity):
        return True
    is_linear = getattr(operation, "activation", None) is keras.activations.linear
    return isinstance(operation, keras.layers.Activation) and is_linear


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layer of a model, and a way to see what goes into it.

    A plain object, so that Keras neither tracks nor saves the twin beside the model.

    Attributes:
        layer: The layer that computes the logits.
        twin: A model over the same layers that returns `[logits, features]` in one forward pass.
    """

    layer: keras.layers.Layer
    twin: keras.Model

    @property
    def num_features(self):
        return self.layer.kernel.shape[0]


def find_head(model):
    """Returns the `Head` of a functional model.

    Raises:
        ValueError: if the model does not end in a layer with a kernel, within reach.
    """
    outputs = getattr(model, "outputs", None)
    layer = output_layer(outputs[0]) if outputs else None
    kernel = getattr(layer, "kernel", None)
    # A head inside of a nested model has its input there, out of reach of this model's graph.
    reachable = any(candidate is layer for candidate in model.layers)
    if kernel is None or len(kernel.shape) != 2 or not reachable:
        raise ValueError(
            "The loss needs the features before the model's last layer and that layer's kernel, "
            "so the model must be functional and end in a layer such as `Dense(num_classes)` of "
            "its own, not one inside of a nested model. Received: "
            f"{model.name!r}, ending in {getattr(layer, 'name', layer)!r} "
            f"of type {type(layer).__name__}"
        )
    inputs, _ = symbolic_tensors(model)
    return Head(layer, keras.Model(inputs, [outputs[0], layer.input]))
