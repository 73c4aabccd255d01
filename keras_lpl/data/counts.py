"""Numbers of training samples in each class."""

import numbers
from typing import Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._label_sources import describe, is_labels, label_arrays
from keras_lpl.data._labels import ids_of_numbers, ids_of_shares

_CHUNK = 2**22  # labels that are looked at at once: a copy of them takes 32 MiB


def class_counts(
    source: Any,
    num_classes: int | None = None,
    *,
    multi_label: bool = False,
    one_hot: bool | None = None,
    ignore_class: int | None = None,
    output: str | int | None = None,
) -> np.ndarray:
    """Counts the training samples of each class.

    This is what every loss takes as `class_counts`. The result is in the order of
    the class numbers; nothing needs to be sorted. Each pixel of a mask and each
    token of a sequence counts as a sample.

    | labels | shape | counts |
    | --- | --- | --- |
    | class numbers, of samples, pixels, tokens | `(...)` or `(..., 1)` | `(C,)` |
    | one-hot or soft | `(..., C)` | `(C,)` |
    | 0 and 1, for a model with one logit | `(...)` or `(..., 1)` | `(2,)`: negatives, positives |
    | multi-hot, with `multi_label=True` | `(..., L)` | `(L, 2)`: the same for each label |

    Class numbers and one-hot labels are told apart by all their values, never by
    a length that happens to match. Labels of rank 2 or more are
    - class numbers, if an integer other than 0 and 1 is among them;
    - one-hot or soft, if the numbers along the last axis always sum to 1;
    - else refused, as long as `num_classes=2`, `one_hot=False` or
      `multi_label=True` does not say what their zeros and ones are.

    A data set is read to its end once, its inputs included, so counting labels
    that are at hand as an array is the faster way. Sample weights are not used.

    Args:
        source: One of
            - labels: a list, NumPy array or tensor of numbers or booleans, in a form
              of the table. A soft label counts once, for the class of its
              largest share, the lowest-numbered of equals;
            - a tuple `(x, y)` or `(x, y, sample_weight)` of arrays;
            - a `tf.data.Dataset` of such tuples, batched or not;
            - a `keras.utils.PyDataset`, a torch `DataLoader`, a list of batches, or
              anything else that can be iterated more than once and gives such
              tuples. If it never ends, neither does counting, except where it
              says so (`tf.data`, `PyDataset`): that is an error.
        num_classes: Number of classes C; with `multi_label=True`, of labels L. Defaults
            to the number of columns of one-hot labels, and to the largest label
            plus one otherwise: give it if the last classes may have no sample at all.
        multi_label: True if the labels are multi-hot, each sample having any number of
            the L labels. A share above 1/2 counts as positive.
        one_hot: True if the last axis of the labels is that of the classes. `None`
            looks at the labels, as above.
        ignore_class: A class number that is not counted, such as that of padding or of
            an image's unlabelled pixels; it need not be in [0, C). With
            `multi_label=True`, the value that is not counted.
        output: For a model of several outputs, which labels to count: a key if they
            come as a dict, an index if they come as a list.

    Returns:
        int64 array of shape `(C,)`, or `(L, 2)` with `multi_label=True`. A class that
        never occurs has 0; the losses refuse such counts, as its prior is not
        defined.

    Raises:
        ValueError: If a label is not an integer, is negative, or is not below
            `num_classes`; if there are no labels; if their form is not clear; if
            the source is infinite.
        TypeError: If the source is none of the above, or a generator, which
            counting would use up.

    Examples:

    >>> import numpy as np
    >>> from keras_lpl.data import class_counts
    >>> class_counts(np.array([0, 2, 0, 1, 0]), num_classes=4)
    array([3, 1, 1, 0])

    Two masks of 2 x 2 pixels, one of them without a label:

    >>> masks = np.array([[[0, 0], [2, 255]], [[0, 1], [0, 0]]], "uint8")
    >>> class_counts(masks, ignore_class=255)
    array([5, 1, 1])

    Three samples with two labels each:

    >>> class_counts([[0, 1], [1, 1], [0, 1]], multi_label=True)
    array([[2, 1],
           [0, 3]])

    Labels of two outputs:

    >>> y = {"shape": np.array([0, 1, 1]), "colour": np.array([2, 0, 1])}
    >>> class_counts((np.zeros((3, 8)), y), output="shape")
    array([1, 2])
    """
    if num_classes is not None:
        num_classes = checks.integer(num_classes, "num_classes", minimum=1)
    ignore_class = _check_ignore_class(ignore_class)
    if multi_label:
        if one_hot is not None:
            raise ValueError(
                "`one_hot` is for labels of one class; multi-hot ones have no such choice. Leave "
                f"it out. Received: multi_label={multi_label}, one_hot={one_hot!r}"
            )
        tally: _MultiLabelTally | _ClassTally = _MultiLabelTally(num_classes, ignore_class)
    else:
        tally = _ClassTally(num_classes, one_hot, ignore_class)
    for labels, is_batch, name in label_arrays(source, output):
        for start, part in _chunks(labels):
            tally.add(part, is_batch, name, start)
    counts = tally.counts()
    if not counts.any():
        raise ValueError(_nothing_to_count(source, ignore_class))
    return counts


class _ClassTally:
    """Counts labels as class numbers and as one-hot rows, until all have been seen.

    A part of them decides nothing: the first masks of a data set may well hold 0 and 1 alone, with
    a single 1 in each row.
    """

    def __init__(self, num_classes, one_hot, ignore_class):
        self._num_classes = num_classes
        self._one_hot = one_hot
        self._ignore_class = ignore_class
        self._by_number = np.zeros(num_classes or 0, "int64")
        self._by_row = np.zeros(0, "int64")
        self._not_numbers = None  # the error that shows that they are not class numbers
        self._not_rows = None  # the error that shows that they are not one-hot
        self._widths = set()  # lengths of the last axis, of labels of rank 2 or more
        self._is_flat = True  # nothing but rank 1: batches of class numbers, or single samples
        self._is_float = False
        self._has_fractions = False
        self._has_other_integers = False  # than 0 and 1
        self._name, self._shape = "labels", ()

    def add(self, labels, is_batch, name, start):
        if labels.size == 0:
            return
        self._name = name
        self._shape = labels.shape
        numbers = rows = labels
        if labels.ndim > 1 and labels.shape[-1] == 1:
            numbers = labels.reshape(labels.shape[:-1])
        elif labels.ndim == 1 and is_batch is not True:
            rows = labels[None]
        self._is_flat = self._is_flat and labels.ndim == 1 and is_batch is not False
        self._is_float = self._is_float or labels.dtype.kind == "f"
        if rows.ndim > 1 and rows.shape[-1] > 1:
            self._widths.add(rows.shape[-1])
        self._look_at(labels)
        if self._one_hot is not True and self._not_numbers is None:
            self._add_numbers(numbers, name, start)
        if self._one_hot is not False and self._not_rows is None:
            self._add_rows(rows, name, start)

    def _look_at(self, labels):
        if labels.dtype.kind == "b":
            if self._num_classes is None and len(self._by_number) < 2:
                self._by_number = _padded(self._by_number, 2)
            return
        if labels.dtype.kind == "f":
            is_fraction = ~(labels == np.floor(labels))  # a NaN is none of the classes either
            self._has_fractions = self._has_fractions or bool(is_fraction.any())
            labels = labels[~is_fraction]
        if not self._has_other_integers and labels.size:
            self._has_other_integers = bool(labels.min() < 0 or labels.max() > 1)

    def _add_numbers(self, labels, name, start):
        if self._ignore_class is not None:
            is_kept = labels != self._ignore_class
            # Only where all are kept can an error say where a label is.
            labels = labels if is_kept.all() else labels[is_kept]
        if self._num_classes == 2 and labels.dtype.kind == "f":
            # The soft labels of a model with one logit.
            is_share = (labels >= 0) & (labels <= 1)
            labels = np.where(is_share, labels > 0.5, labels)
        try:
            ids = ids_of_numbers(labels, self._num_classes, name, start)
        except ValueError as error:
            self._not_numbers = error
        else:
            self._by_number = _added(self._by_number, ids)

    def _add_rows(self, labels, name, start):
        try:
            if labels.ndim < 2 or labels.shape[-1] == 1:
                raise ValueError(
                    f"One-hot or soft `{name}` must have one column per class, of shape (..., C) "
                    f"with C of at least 2. Received: shape {labels.shape}"
                )
            if len(self._widths) > 1:
                raise ValueError(
                    f"One-hot or soft `{name}` must all have as many columns as there are classes. "
                    f"Received: last axes of length {sorted(self._widths)}"
                )
            ids = ids_of_shares(labels, None, name, start)
        except ValueError as error:
            self._not_rows = error
        else:
            if self._ignore_class is not None:
                ids = ids[ids != self._ignore_class]
            self._by_row = _added(_padded(self._by_row, labels.shape[-1]), ids)

    def counts(self):
        """The counts, int64 `(C,)`.

        Raises:
            ValueError: If the labels have no such form, or more than one.
        """
        if self._are_rows():
            if self._not_rows is not None:
                raise self._not_rows
            if self._num_classes not in (None, *self._widths):
                raise ValueError(
                    f"One-hot or soft `{self._name}` must have one column per class; class numbers "
                    "that look so need `one_hot=False`. "
                    f"Received: shape {self._shape}, num_classes={self._num_classes}"
                )
            return self._by_row
        if self._not_numbers is not None:
            raise self._not_numbers
        return self._by_number

    def _are_rows(self):
        """True if the last axis is that of the classes."""
        if self._one_hot is not None:
            return self._one_hot
        if not self._widths:
            return False
        are_rows = self._not_rows is None
        if self._is_flat and (self._is_float or not are_rows):
            # One-hot labels are floats almost always, and float class numbers almost never sum to 1
            # in every batch.
            return are_rows
        if self._is_flat:
            raise ValueError(
                f"`{self._name}` may be batches of class numbers (`one_hot=False`), or the one-hot "
                "labels of single samples (`one_hot=True`): there are as many as inputs, and all "
                f"sum to 1. Received: shape {self._shape}"
            )
        if self._has_fractions:
            # Fractions are no class numbers, except of a model with one logit.
            is_one_logit = self._not_numbers is None and self._widths != {2}
            return are_rows or not is_one_logit
        if self._has_other_integers:
            return False
        if are_rows:
            if self._ignore_class in (0, 1):
                raise ValueError(
                    f"`{self._name}` hold only 0 and 1 and sum to 1 along the last axis: they may "
                    "be one-hot (`one_hot=True`), or class numbers (`one_hot=False`) as "
                    f"`ignore_class` suggests. Received: shape {self._shape}, "
                    f"ignore_class={self._ignore_class}"
                )
            return True
        has_other_width = self._num_classes is not None and self._widths != {self._num_classes}
        if has_other_width or self._ignore_class is not None or len(self._widths) > 1:
            return False
        received = str(self._not_rows).rpartition("Received: ")[-1]
        raise ValueError(
            f"`{self._name}` hold only 0 and 1, and are not one-hot. Say what they are: class "
            "numbers of two classes, such as a mask (`num_classes=2`, or `one_hot=False`), or "
            "multi-hot labels, of which a sample may have several (`multi_label=True`). "
            f"Received: shape {self._shape}, {received}"
        )


class _MultiLabelTally:
    """Counts negatives and positives of each label."""

    def __init__(self, num_labels, ignored):
        self._num_labels = num_labels
        self._ignored = ignored
        self._counts = None

    def add(self, labels, is_batch, name, start):
        if labels.ndim == 1 and is_batch is not True:
            labels = labels[None]
        if labels.size == 0:
            return
        if labels.ndim < 2 or self._num_labels not in (None, labels.shape[-1]):
            of = "L" if self._num_labels is None else f"L={self._num_labels}"
            raise ValueError(
                f"With `multi_label=True`, `{name}` must have shape (..., {of}), one column per "
                f"label. Received: shape {labels.shape}"
            )
        self._num_labels = labels.shape[-1]
        is_kept = np.ones(labels.shape, bool) if self._ignored is None else labels != self._ignored
        is_bad = is_kept & ~((labels >= 0) & (labels <= 1))
        if is_bad.any():
            at = np.unravel_index(int(np.argmax(is_bad)), is_bad.shape)
            place = ", ".join(str(int(i)) for i in (at[0] + start, *at[1:]))
            raise ValueError(
                f"With `multi_label=True`, `{name}` must be 0, 1 or a share in between; "
                "`ignore_class` leaves one other value out. "
                f"Received: {name}[{place}]={labels[at]}"
            )
        leading = tuple(range(labels.ndim - 1))
        positives = (is_kept & (labels > 0.5)).sum(axis=leading)
        counts = np.stack([is_kept.sum(axis=leading) - positives, positives], axis=-1)
        self._counts = counts if self._counts is None else self._counts + counts

    def counts(self):
        """The counts, int64 `(L, 2)`."""
        if self._counts is None:
            return np.zeros((self._num_labels or 0, 2), "int64")
        return self._counts.astype("int64", copy=False)


def _added(counts, ids):
    seen = np.bincount(ids.reshape(-1), minlength=len(counts)).astype("int64", copy=False)
    return seen + _padded(counts, len(seen))


def _padded(counts, size):
    return np.pad(counts, (0, max(0, size - len(counts))))


def _chunks(labels):
    """Yields `(start, part)` of a large array, so that copies of it stay small."""
    if labels.ndim == 0 or labels.size <= _CHUNK:
        yield 0, labels
        return
    step = max(1, _CHUNK * len(labels) // labels.size)
    for start in range(0, len(labels), step):
        yield start, labels[start : start + step]


def _check_ignore_class(value):
    if value is None:
        return None
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"`ignore_class` must be an integer. Received: ignore_class={value!r}")
    return int(value)


def _nothing_to_count(source, ignore_class):
    ignored = "" if ignore_class is None else f" other than ignore_class={ignore_class}"
    advice = "" if is_labels(source) else " A data set that has been read to its end gives none."
    return f"There are no labels to count{ignored}.{advice} Received: source={describe(source)}"
