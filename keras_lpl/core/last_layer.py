"""The last layer of a model, seen through casts, reshapes and nested models."""

from typing import Any

import keras

# Not the logarithm of a softmax: it is logits like any other.
_PROBABILITIES = {"softmax", "sigmoid", "log_sigmoid", "hard_sigmoid", "sparsemax"}
_SHAPE_LAYERS = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Permute)


def probability_of(output: Any) -> str | None:
    """Name of the activation that makes probabilities of an output; None for logits."""
    layer = output_layer(output)
    while isinstance(layer, _SHAPE_LAYERS):
        layer = output_layer(layer.input)
    activation = getattr(layer, "activation", None)
    names = {getattr(activation, "__name__", None), type(layer).__name__.lower()}
    found = names & _PROBABILITIES
    return found.pop() if found else None


def output_layer(output: Any) -> Any:
    """The layer or operation that computes `output`, seen through casts and nested models."""
    operation, _, index = output._keras_history
    if hasattr(operation, "outputs") and isinstance(operation, keras.Model):
        return output_layer(operation.outputs[index])
    if _passes_on(operation):
        return output_layer(operation.input)
    return operation


def _passes_on(operation):
    """True if an operation returns its input: `Activation("linear", dtype="float32")` and such."""
    if isinstance(operation, keras.layers.Identity):
        return True
    is_linear = getattr(operation, "activation", None) is keras.activations.linear
    return isinstance(operation, keras.layers.Activation) and is_linear
