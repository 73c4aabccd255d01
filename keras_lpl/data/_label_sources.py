"""Where labels are: in arrays, pairs of inputs and labels, and data sets of every kind."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._labels import label_array

_INFINITE_CARDINALITY = -1  # tf.data.INFINITE_CARDINALITY, without importing TensorFlow


def label_arrays(source: Any, output: Any) -> Iterator[tuple[np.ndarray, bool | None, str]]:
    """Yields `(labels, is_batch, name)`: arrays, and whether the first axis is that of a batch.

    `is_batch` is None where that is not known, and matters for labels of rank 1 alone.
    """
    if isinstance(source, Mapping):
        for labels in _arrays_of_labels(_picked(source, output, "source"), "labels"):
            yield labels, True, "labels"
    elif _is_pair(source, output):
        _, y = _unpack(source, output)
        for labels in _arrays_of_labels(y, "y"):
            yield labels, True, "y"
    elif is_labels(source):
        labels = source if output is None else _picked(source, output, "source")
        for part in _arrays_of_labels(labels, "labels"):
            yield part, True, "labels"
    else:
        elements, is_batch = _elements(source, output)
        for element in elements:
            x, y = _unpack(element, output)
            labels = label_array(_without_padding(y), "y")
            if labels.ndim == 0:
                yield labels[None], True, "y"
            elif hasattr(y, "flat_values"):
                yield labels, True, "y"
            else:
                yield labels, is_batch or _may_be_batch(x, len(labels)), "y"


def _is_pair(source, output):
    """True for `(x, y)` and `(x, y, sample_weight)`, not for a tuple of batches or of labels."""
    if not isinstance(source, tuple) or len(source) not in (2, 3) or not _holds_arrays(source[0]):
        return False
    if not isinstance(source[0], (list, tuple)) or output is not None:
        return True
    # Several inputs; or a batch, and then another one follows.
    return not (isinstance(source[1], (list, tuple)) and _holds_arrays(source[1]))


def is_labels(source: Any) -> bool:
    """True for labels alone, in an array or a sequence."""
    if hasattr(source, "__array__") or hasattr(source, "flat_values") or isinstance(source, range):
        return True
    if not isinstance(source, (list, tuple)):
        return False
    # A list of (x, y) batches has arrays where a list of labels has numbers.
    return not (
        len(source)
        and isinstance(source[0], (list, tuple))
        and len(source[0]) in (2, 3)
        and _holds_arrays(source[0][0])
    )


def _holds_arrays(value):
    if isinstance(value, Mapping):
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and _holds_arrays(value[0])
    return len(getattr(value, "shape", ())) > 0


def _arrays_of_labels(labels, name):
    """Returns a list of arrays: one, or one for each sequence where their lengths differ."""
    labels = _without_padding(labels)
    is_nested = isinstance(labels, (list, tuple)) and any(
        isinstance(part, (list, tuple)) or len(getattr(part, "shape", ())) for part in labels
    )
    if not is_nested:
        array = label_array(labels, name)
        if array.ndim == 0:
            raise ValueError(
                f"`{name}` must be an array of labels, of shape (N,) or more. Received: a single "
                f"number, {array}"
            )
        return [array]
    parts = [label_array(part, name) for part in labels]
    if len({part.shape for part in parts}) == 1:
        return [np.stack(parts)]
    if len({part.ndim for part in parts}) > 1:
        shapes = ", ".join(str(part.shape) for part in parts[:3])
        raise ValueError(
            f"`{name}` must be labels alone, all of the same rank. Inputs and labels go together "
            f"in a tuple, `(x, y)`. Received: {len(parts)} arrays, of shapes {shapes}"
            f"{', ...' if len(parts) > 3 else ''}"
        )
    return [part[None] for part in parts]


def _without_padding(labels):
    """The values of a ragged tensor; everything else as it is."""
    return getattr(labels, "flat_values", labels)


def _elements(source, output):
    """Returns what a data set gives, and True if it says that these are batches, else None."""
    if hasattr(source, "element_spec") and hasattr(source, "cardinality"):
        return _tf_elements(source), _tf_is_batched(source, output)
    if hasattr(source, "num_batches"):
        return _py_dataset_elements(source), True
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and not _is_text(source):
        # A map-style data set, or a list of batches.
        return (source[i] for i in range(len(source))), None
    # A torch DataLoader with batch_size=None gives what its data set gives.
    if hasattr(source, "__iter__") and not hasattr(source, "__next__") and not _is_text(source):
        return source, True if getattr(source, "batch_size", None) is not None else None
    raise TypeError(
        "`source` must be an array of labels, or a data set of (x, y) that can be iterated "
        "more than once: a generator or iterator would be used up by counting. Pass the "
        f"labels, or the data set it came from. Received: source={describe(source)}"
    )


def _is_text(source):
    return isinstance(source, (str, bytes))


def _tf_elements(dataset):
    if int(dataset.cardinality()) == _INFINITE_CARDINALITY:
        raise ValueError(
            "`source` is an infinite tf.data.Dataset: counting it would never end. Count it "
            f"before `.repeat()`, or a part with `.take(n)`. Received: source={describe(dataset)}"
        )
    return dataset


def _tf_is_batched(dataset, output):
    # An axis of unknown length is the batch: `.batch()` without `drop_remainder` makes one.
    spec = dataset.element_spec
    if isinstance(spec, (list, tuple)) and len(spec) in (2, 3):
        shape = getattr(_picked(spec[1], output, "y"), "shape", None)
        if shape is not None and shape.rank == 1 and shape[0] is None:
            return True
    return None


def _py_dataset_elements(dataset):
    num_batches = dataset.num_batches
    if num_batches is None:
        raise ValueError(
            "`source` is an infinite PyDataset (`num_batches` is None): counting it would never "
            f"end. Pass the labels instead. Received: source={describe(dataset)}"
        )
    return (dataset[i] for i in range(num_batches))


def _unpack(element, output):
    """Returns the inputs of `(x, y)` or `(x, y, sample_weight)`, and the labels of one output."""
    if not isinstance(element, (list, tuple)) or len(element) not in (2, 3):
        held = f"a dict with keys {sorted(element)}" if isinstance(element, dict) else ""
        raise ValueError(
            "Each element of `source` must be (x, y) or (x, y, sample_weight), as `fit` takes "
            "them. Map other forms to this one first. "
            f"Received: {held or describe(element)}"
        )
    return element[0], _picked(element[1], output, "y")


def _picked(y, output, name):
    """Returns the labels of one output; if there is only one, it need not be named."""
    if isinstance(y, Mapping):
        keys, kind = list(y), "a key"
    elif isinstance(y, (list, tuple)) and any(len(getattr(part, "shape", ())) for part in y):
        keys, kind = list(range(len(y))), "an index"
    elif output is None:
        return y
    else:
        raise ValueError(
            f"`output` picks from several outputs, in a dict or a list, and `{name}` is one array "
            f"of labels. Leave `output` out. Received: output={output!r}"
        )
    if output is None and len(keys) == 1:
        output = keys[0]
    if output not in keys:
        raise ValueError(
            f"`{name}` holds one array of labels for each of several outputs: pick one with "
            f"`output`, {kind} of {keys}. Received: output={output!r}"
        )
    return y[output]


def _may_be_batch(x, length):
    """False where inputs and labels differ in length, and so are those of a single sample."""
    while isinstance(x, Mapping) or (isinstance(x, (list, tuple)) and x and _holds_arrays(x[0])):
        x = next(iter(x.values()), None) if isinstance(x, Mapping) else x[0]
    if isinstance(x, (list, tuple)):
        return None if len(x) == length else False
    shape = tuple(getattr(x, "shape", ()))
    return None if shape and shape[0] == length else False


def describe(value: Any) -> str:
    """A value for a message: shortened, with its type."""
    return f"{checks.shortened(value, 80)} (of type {type(value).__name__})"
