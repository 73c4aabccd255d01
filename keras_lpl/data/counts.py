"""How many training samples each class has."""

import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._labels import class_ids, to_numpy

_INFINITE_CARDINALITY = -1  # tf.data.INFINITE_CARDINALITY, without importing TensorFlow


def class_counts(source, num_classes=None):
    """Counts the training samples of each class.

    What every loss here takes as `class_counts`. The result is in the order of
    the class numbers; nothing needs to be sorted.

    A data set is read to its end once, its inputs included, so counting labels
    that are at hand as an array is the faster way. Sample weights are not used.

    Args:
        source: One of
            - labels: integers, shape `(N,)` or `(N, 1)`, or one-hot or soft
              labels, shape `(N, C)`; a list, NumPy array or tensor. A soft label
              counts once, for the class of its largest share;
            - a `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`, batched
              or not;
            - a `keras.utils.PyDataset`, a torch `DataLoader`, or anything else
              that can be iterated more than once and gives such tuples. If it
              never ends, neither does counting, except where it says so
              (`tf.data`, `PyDataset`): that is an error.
        num_classes: Number of classes C. Defaults to the number of columns of
            one-hot labels, and to the largest label plus one otherwise: give it
            if the last classes may have no sample at all.

    Returns:
        int64 array of shape `(C,)`. A class that never occurs has 0; the losses
        refuse such counts, as its prior is not defined.

    Raises:
        ValueError: If a label is not an integer, is negative, or is not below
            `num_classes`; if there are no labels; if the source is infinite.
        TypeError: If the source is none of the above, or a generator, which
            counting would use up.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import class_counts
    >>> class_counts(np.array([0, 2, 0, 1, 0]), num_classes=4)
    array([3, 1, 1, 0])
    """
    if num_classes is not None:
        num_classes = checks.integer(num_classes, "num_classes", minimum=1)
    if _is_labels(source):
        batches, name = [source], "labels"
    else:
        batches, name = _label_batches(source), "y"

    counts = np.zeros(num_classes or 0, dtype="int64")
    for labels in batches:
        ids, width = class_ids(labels, num_classes, name)
        # From here on, every batch must have these columns and no larger label.
        num_classes = num_classes or width
        seen = np.bincount(ids, minlength=max(len(counts), width or 0))
        seen[: len(counts)] += counts
        counts = seen
    if not counts.any():
        raise ValueError(f"There are no labels to count. Received: source={_describe(source)}")
    return counts.astype("int64", copy=False)


def _is_labels(source):
    if hasattr(source, "__array__") or isinstance(source, range):
        return True
    if not isinstance(source, (list, tuple)):
        return False
    # A list of (x, y) batches has arrays where a list of labels has numbers.
    return not (
        len(source)
        and isinstance(source[0], (list, tuple))
        and len(source[0]) in (2, 3)
        and len(getattr(source[0][0], "shape", ())) > 0
    )


def _label_batches(source):
    """Yields labels of shape (B,), (B, 1) or (B, C), batch by batch."""
    if hasattr(source, "element_spec") and hasattr(source, "cardinality"):
        elements = _tf_elements(source)
        batched = _tf_is_batched(source)
    elif hasattr(source, "num_batches"):
        elements = _py_dataset_elements(source)
        batched = True
    elif _is_sequence(source):
        # A map-style data set, or a list of batches.
        elements = (source[i] for i in range(len(source)))
        batched = None
    elif not isinstance(source, (dict, str)) and _is_reiterable(source):
        elements = source
        # A torch DataLoader with batch_size=None gives what its data set gives.
        batched = True if getattr(source, "batch_size", None) is not None else None
    else:
        raise TypeError(
            "`source` must be an array of labels, or a data set of (x, y) that can be iterated "
            "more than once: a generator or iterator would be used up by counting. Pass the "
            f"labels, or the data set it came from. Received: source={_describe(source)}"
        )
    for element in elements:
        x, y = _unpack(element)
        yield _as_batch(x, to_numpy(y), batched)


def _is_reiterable(source):
    return hasattr(source, "__iter__") and not hasattr(source, "__next__")


def _is_sequence(source):
    has_items = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    return has_items and not isinstance(source, (dict, str))


def _tf_elements(dataset):
    if int(dataset.cardinality()) == _INFINITE_CARDINALITY:
        raise ValueError(
            "`source` is an infinite tf.data.Dataset: counting it would never end. Count it "
            f"before `.repeat()`, or a part with `.take(n)`. Received: source={_describe(dataset)}"
        )
    return dataset


def _tf_is_batched(dataset):
    # An axis of unknown length is the batch: `.batch()` without `drop_remainder` makes one.
    spec = dataset.element_spec
    if isinstance(spec, (list, tuple)) and len(spec) > 1:
        shape = getattr(spec[1], "shape", None)
        if shape is not None and shape.rank == 1 and shape[0] is None:
            return True
    return None


def _py_dataset_elements(dataset):
    num_batches = dataset.num_batches
    if num_batches is None:
        raise ValueError(
            "`source` is an infinite PyDataset (`num_batches` is None): counting it would never "
            f"end. Pass the labels instead. Received: source={_describe(dataset)}"
        )
    return (dataset[i] for i in range(num_batches))


def _unpack(element):
    if not isinstance(element, (list, tuple)) or len(element) not in (2, 3):
        held = f"a dict with keys {sorted(element)}" if isinstance(element, dict) else ""
        raise ValueError(
            "Each element of `source` must be (x, y) or (x, y, sample_weight), as `fit` takes "
            "them. Map other forms to this one first. "
            f"Received: {held or _describe(element)}"
        )
    y = element[1]
    if isinstance(y, dict) or (
        isinstance(y, (list, tuple)) and any(getattr(part, "shape", ()) for part in y)
    ):
        raise ValueError(
            "Each element of `source` must have one array of labels. Pick one output first. "
            f"Received: y={_describe(y)}"
        )
    return element[0], y


def _as_batch(x, y, batched):
    """Adds the batch axis that an unbatched sample lacks.

    Only rank 1 leaves a choice: B class numbers, or the one-hot label of one sample. Inputs and
    labels of a batch agree in their first axis.
    """
    if y.ndim == 0:
        return y[None]
    if y.ndim > 1 or batched:
        return y
    while isinstance(x, (dict, list, tuple)) and len(x):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    x_shape = tuple(getattr(x, "shape", ()))
    same_length = bool(x_shape) and x_shape[0] == y.shape[0]
    # One-hot rows are floats almost always, and float class numbers almost never sum to 1.
    one_hot = y.dtype.kind == "f" and len(y) > 1 and abs(float(y.sum()) - 1) < 1e-2
    return y if same_length and not one_hot else y[None]


def _describe(value):
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return f"{shown} (of type {type(value).__name__})"
