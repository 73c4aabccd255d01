"""The clean, balanced samples that steer a `MetaModel`, kept as variables of the model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.outputs import read_output
from keras_lpl.core.statistics import State
from keras_lpl.core.typing import Tensor

_PURPOSE = "`meta_data` must be a pair `(x, y)` of a few clean samples of each class"


class MetaSamples(State):
    """Samples, and the place from which the next batch of them is taken.

    Batches go round the set. Samples of class indices are put in an order in which each class comes
    in turn, so that a batch is as balanced as its size allows.

    Args:
        x: Arrays `(samples, ...)`: one, or a list or dict of them, as the model takes its inputs.
        y: Labels `(samples, ...)`, in a form that the loss takes.
        batch_size: Samples seen in each step.
        are_known: False for samples that are yet to be loaded from a file.
    """

    def __init__(
        self, x: Any, y: np.ndarray, batch_size: int, are_known: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = len(y)
        self.batch_size = batch_size
        self.are_known = are_known
        if are_known and y.dtype.kind in "iub" and y.size == len(y):
            order = _classes_in_turn(y.reshape(-1))
            x, y = keras.tree.map_structure(lambda array: array[order], x), y[order]
        self.keys: Any = None  # of a dict, or the length of a list
        if isinstance(x, (dict, list, tuple)):
            self.keys = sorted(x) if isinstance(x, dict) else len(x)
        self.x = [self._variable(f"x{i}", array) for i, array in enumerate(keras.tree.flatten(x))]
        self.y = self._variable("y", y)
        self.next = self.add_weight(
            name="next", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def _variable(self, name, array):
        variable = self.add_weight(
            name=name,
            shape=array.shape,
            dtype=str(array.dtype),
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        variable.assign(array)
        return variable

    def take(self) -> tuple[Any, Tensor]:
        """The next batch, `(x, y)`."""
        start = ops.convert_to_tensor(self.next)
        rows = ops.mod(start + ops.arange(self.batch_size, dtype="int32"), self.size)
        x = [engines.take_rows(variable, rows) for variable in self.x]
        self.next.assign(ops.mod(start + self.batch_size, self.size))
        return _packed(x, self.keys), engines.take_rows(self.y, rows)

    def check(self, output: Any, loss: Any) -> None:
        """Raises `ValueError` unless there is a sample of every class.

        Args:
            output: The model's output, as `keras_lpl.models.plan.Output`.
            loss: Its loss, if it is one of this package.
        """
        if not self.are_known:
            return
        y = ops.convert_to_numpy(self.y)
        units = output.form.units
        leading = (self.size, *(1 if n is None else n for n in output.form.leading[1:]))
        if y.ndim > 1 and None in output.form.leading[1:]:
            leading = y.shape[: len(leading)]
        keywords = {}
        if loss is not None:
            keywords = {"multi_label": loss.multi_label, "ignore_class": loss.ignore_class}
        samples = read_output(
            y, np.zeros((*leading, units), "float32"), name="meta_data", **keywords
        )
        weight = ops.convert_to_numpy(samples.weight_by_class())
        if weight.min() <= 0:
            place = np.unravel_index(np.argmin(weight), weight.shape)
            what = f"class {place[-1]}"
            if samples.num_problems is not None:
                what = f"label {place[0]} being {place[1]}"
            raise ValueError(
                f"{_PURPOSE}, and there is none of {what}. Add some, 10 of each class as in the "
                "papers: `keras_lpl.data.long_tail_indices(y, [10] * num_classes)` picks them. "
                f"Received: meta_data with {self.size} samples"
            )

    def get_specification(self) -> dict[str, Any]:
        """JSON-serializable description, from which `from_specification` makes room for them."""

        def describe(variable):
            return [variable.dtype, *variable.shape]

        keys = self.keys if self.keys is None or isinstance(self.keys, int) else list(self.keys)
        return {"keys": keys, "x": [describe(v) for v in self.x], "y": describe(self.y)}


def make_meta_samples(model: Any, meta_data: Any, batch_size: int | None) -> MetaSamples:
    """Makes `MetaSamples` of what a user has passed, or of `MetaSamples.get_specification`."""
    are_known = not (isinstance(meta_data, dict) and "keys" in meta_data)
    x, y = _checked(model, meta_data) if are_known else _from_specification(meta_data)
    batch_size = 100 if batch_size is None else checks.integer(batch_size, "meta_batch_size", 1)
    return MetaSamples(x, y, min(batch_size, len(y)), are_known, name="meta_samples")


def _from_specification(specification):
    def make(description):
        dtype, *shape = description
        return np.zeros(shape, dtype)

    x = [make(description) for description in specification["x"]]
    return _packed(x, specification["keys"]), make(specification["y"])


def _packed(x, keys):
    """Flat inputs in the structure that a user passed: one, a list or a dict."""
    if keys is None:
        return x[0]
    return x if isinstance(keys, int) else dict(zip(keys, x, strict=True))


def _checked(model, meta_data):
    """Arrays of a pair, checked against the model's inputs."""
    if not isinstance(meta_data, (tuple, list)) or len(meta_data) != 2:
        raise ValueError(
            f"{_PURPOSE}. Received: meta_data of type {type(meta_data).__name__}"
            + (f" with {len(meta_data)} parts" if isinstance(meta_data, (tuple, list)) else "")
        )
    x, y = meta_data
    nested = isinstance(x, (dict, list, tuple)) and len(model.inputs) > 1
    x = keras.tree.map_structure(_array, x) if nested else _array(x)
    y = _array(y)
    flat = keras.tree.flatten(x)
    expected = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    received = [array.shape[1:] for array in flat]
    fits = len(expected) == len(received) and all(map(_fits, expected, received))
    if not fits or y.ndim == 0 or any(array.ndim == 0 or len(array) != len(y) for array in flat):
        shapes = ", ".join(str(("samples", *shape)) for shape in expected)
        raise ValueError(
            f"{_PURPOSE}: for this model `x` of shape {shapes}, and as many labels. Received: "
            f"meta_data with x of shape {', '.join(str(array.shape) for array in flat)} and y of "
            f"shape {y.shape}"
        )
    if not len(y):
        raise ValueError(f"{_PURPOSE}. Received: meta_data without samples")
    return x, y


def _fits(expected, received):
    return len(expected) == len(received) and all(
        size is None or size == given for size, given in zip(expected, received, strict=True)
    )


def _array(value):
    array = value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value)
    if array.dtype.kind not in "iubf":
        raise ValueError(f"{_PURPOSE}, as numbers. Received: meta_data of dtype {array.dtype}")
    if array.dtype.kind == "f":
        return array.astype(keras.config.floatx())
    return array.astype("int32") if array.dtype.itemsize > 4 else array


def _classes_in_turn(labels):
    """Order in which the first sample of each class comes first, then the second, and so on."""
    by_class = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    number = np.concatenate([np.arange(size) for size in sizes])
    return by_class[np.argsort(number, kind="stable")]
