"""`CosineDense`: a classifier on the cosine between features and class vectors.

The normalised classifier of LDAM (Cao et al., NeurIPS 2019), of cosine softmax and of the margin
losses of face recognition.
"""

import warnings
from typing import Any

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor


@register
class CosineDense(keras.layers.Layer):
    """A dense layer without bias whose inputs and class vectors are brought to length 1.

    `outputs_ic = scale * cos(x_i, w_c)`. A frequent class cannot win by a longer class vector or
    a bias; only the direction of the features counts.

    Args:
        units: Number of classes.
        scale: Factor on the cosines. 1 for LDAM, which brings a scale of its own; plain
            cross-entropy cannot tell classes apart by cosines alone, and needs about 10 to 30.
        kernel_initializer: Of the class vectors; their length does not matter.
        kernel_regularizer: Of the class vectors. Weight decay only changes how fast their
            direction moves.
        **kwargs: As for `keras.layers.Layer`.

    Input shape: `(..., num_features)`. Output shape: `(..., units)`, within `[-scale, scale]`.

    Raises:
        ValueError: if `units` is not a positive integer, or `scale` not a positive number.

    Example:

    >>> head = keras_lpl.layers.CosineDense(10)
    >>> cosines = head(np.random.default_rng(0).normal(size=(2, 64)))
    >>> bool(keras.ops.all(keras.ops.abs(cosines) <= 1.0001))
    True
    """

    def __init__(
        self,
        units: int,
        scale: float = 1.0,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checks.integer(units, "units", minimum=1)
        self.scale = checks.number(scale, "scale", minimum=0, exclusive=True)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """Maps `(..., num_features)` to `(..., units)`."""
        # float16 holds no squares above 65,504, and takes a small length for 0.
        directions = ops.cast(_unit(inputs, axis=-1), self.compute_dtype)
        class_directions = ops.cast(_unit(self.kernel, axis=0), self.compute_dtype)
        return self.scale * ops.matmul(directions, class_directions)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the cosines."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _unit(x, axis):
    """`x` in at least float32, of length 1 along `axis`; zeros stay zeros."""
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        x = ops.cast(x, "float32")
    return ops.normalize(x, axis=axis)


def warn_of_cosine_head(perturbation: Any, layer: Any) -> None:
    """Warns if the logits are cosines, for a method derived for a dense layer's."""
    if isinstance(layer, CosineDense):
        name = type(perturbation).__name__
        warnings.warn(
            f"{name} is derived for logits that are linear in the features: end the model in "
            f"`keras.layers.Dense`. Received: a model that ends in {layer.name!r} of type "
            "CosineDense",
            stacklevel=3,
        )


def warn_of_dense_head(perturbation: Any, scale: float, layer: Any) -> None:
    """Warns if the logits are not cosines, for a method that scales cosines up."""
    if scale != 1 and not isinstance(layer, CosineDense):
        warnings.warn(
            f"{type(perturbation).__name__} multiplies the logits by its scale, which is made for "
            "cosines: end the model in `keras_lpl.layers.CosineDense(num_classes)`, or training "
            f"may diverge. Received: scale={scale:g}, and a model that ends in "
            f"{getattr(layer, 'name', layer)!r} of type {type(layer).__name__}",
            stacklevel=3,
        )
