"""Reads a model's output, its labels and weights as `Samples`.

    output                            labels                                rows          classes
    (..., C), C >= 2                  indices (...) or (..., 1);            leading axes  C
                                      one-hot or soft (..., C)
    (..., 1)                          0 to 1, (...) or (..., 1)             leading axes  2
    (..., L) with multi_label=True    0 to 1, (..., L)                      leading axes  2
                                                                            times L

Indices and one-hot labels are told apart by their rank beside that of the output, never by a length
that happens to match. One logit `u` is read as the two logits `[0, u]`.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core import labels as label_forms
from keras_lpl.core.labels import RowLabels
from keras_lpl.core.masks import mask_of
from keras_lpl.core.numerics import LARGEST, flat, negated, squared_length
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

# How far rounding, in half precision, may take a probability out of [0, 1].
PROBABILITY_SLACK = 0.01


@dataclasses.dataclass(frozen=True)
class OutputForm:
    """The form of a model's output, told by its static shape.

    Attributes:
        leading: Static leading shape, `(batch, ...)`, with None where a size is not known.
        units: Size of the last axis.
        num_classes: Classes of a row.
        num_problems: Labels of a sample, or None if it has one.
    """

    leading: tuple[int | None, ...]
    units: int
    num_classes: int
    num_problems: int | None = None

    @property
    def shape_by_class(self) -> tuple[int, ...]:
        """Shape of one number for each class."""
        if self.num_problems is None:
            return (self.num_classes,)
        return (self.num_problems, self.num_classes)


def form_of(shape: Any, multi_label: bool = False) -> OutputForm:
    """The form of an output of `shape`.

    Raises:
        ValueError: for a shape that is not one of logits.
    """
    shape = tuple(shape)
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            "The model's output must be logits of shape (batch, ..., classes), or (batch, ..., 1) "
            f"for two classes, with a known last axis. Received: an output of shape {shape}"
        )
    leading, units = shape[:-1], int(shape[-1])
    if multi_label:
        return OutputForm(leading, units, 2, units)
    return OutputForm(leading, units, max(units, 2))


def read_output(
    y_true: Tensor,
    y_pred: Tensor,
    sample_weight: Tensor | None = None,
    *,
    multi_label: bool = False,
    ignore_class: int | None = None,
    from_logits: bool = True,
    mask: Tensor | None = None,
    features: Tensor | None = None,
    dtype: str = "float32",
    name: str = "y_true",
    check_values: bool = True,
) -> Samples:
    """Reads one batch of one output.

    Args:
        y_true: Labels, in one of the forms of the table above.
        y_pred: Logits `(..., classes)`, `(..., 1)` or `(..., labels)`.
        sample_weight: `(batch,)`, the leading shape of the logits or anything in between, or None.
        multi_label: Read each unit of the last axis as a label of its own.
        ignore_class: Rows with this label take no part.
        from_logits: False if `y_pred` holds probabilities.
        mask: bool, as `sample_weight`; False for rows that take no part. None for the mask that
            Keras's layers have given `y_pred`, if any.
        features: Input of the model's last layer, `(..., features)`, or None.
        dtype: `"float32"` or `"float64"`.
        name: What to call the labels in an error.
        check_values: Look at labels whose values are at hand, and raise if one is bad.

    Raises:
        ValueError: if shapes do not fit, or if the values of the labels are at hand and wrong.
    """
    mask = mask_of(y_pred) if mask is None else mask
    y_pred = ops.convert_to_tensor(y_pred)
    form = form_of(y_pred.shape, multi_label)
    shape = tuple(ops.shape(y_pred)[:-1])
    if keras.backend.standardize_dtype(y_pred.dtype) != dtype:
        y_pred = ops.cast(y_pred, dtype)
    logits = _rows_of_logits(y_pred, form, from_logits)

    weight = rows_of_weight(sample_weight, form, shape, dtype, "sample_weight")
    is_counted = None
    if mask is not None:
        is_counted = rows_of_weight(ops.cast(mask, dtype), form, shape, dtype, "mask") != 0
        kept = ops.cast(is_counted, dtype)
        weight = kept if weight is None else weight * kept
    labels = read_labels(y_true, form, ignore_class, weight, dtype, name, check_values, shape[0])
    if labels.is_ignored is not None:
        is_kept = ops.logical_not(labels.is_ignored)
        is_counted = _both(is_counted, is_kept)

    # Here it is decided what statistics get to see: what passes, however often, adds up to finite
    # sums of weights, features and their squares. None stands for all of them.
    logits, is_usable = engines.finite_or_zero(logits)
    if features is not None:
        features = _rows_of_features(ops.cast(features, dtype), form)
        squares = squared_length(features)
        is_usable = _both(is_usable, squares < LARGEST)
        features = ops.where(is_usable[:, None], features, 0.0)
    if labels.is_label is not None:
        is_usable = _both(is_usable, labels.is_label)
    is_bad = None if is_usable is None else negated(is_usable)
    if weight is not None:
        is_weight = ops.abs(weight) < LARGEST
        no_weight = negated(is_weight)
        if is_bad is not None:  # a row of weight 0 may hold anything
            no_weight = ops.logical_or(ops.logical_and(is_bad, weight != 0), no_weight)
        is_bad = no_weight
        is_usable = _both(is_usable, ops.logical_and(weight > 0, is_weight))
        if features is not None:
            is_usable = ops.logical_and(is_usable, weight * squares < LARGEST)
    if is_counted is not None:
        is_bad = None if is_bad is None else ops.logical_and(is_bad, is_counted)
        is_usable = _both(is_usable, is_counted)
    rows = ops.shape(logits)[0]
    problem = None
    if form.num_problems is not None:
        problem = ops.mod(ops.arange(rows, dtype=engines.INDEX_DTYPE), form.num_problems)
    if is_usable is None:
        weight = engines.ones(rows, logits)
    elif weight is None:
        weight = ops.cast(is_usable, dtype)
    else:
        weight = ops.where(is_usable, weight, 0.0)
    return Samples(
        logits=logits,
        labels=labels.labels,
        weight=weight,
        shape=shape,
        is_bad=is_bad,
        is_counted=is_counted,
        problem=problem,
        num_problems=form.num_problems,
        features=features,
    )


def _both(mask, other):
    """Rows of two masks; None is all rows."""
    return other if mask is None else ops.logical_and(mask, other)


def find_probabilities(y_pred: Tensor) -> bool | None:
    """True if an output is seen to be probabilities, False if not, None if it cannot be seen.

    Keras's softmax and sigmoid leave their input at their output, in traced code too, except on
    JAX. Values that are at hand are probabilities if each row lies in [0, 1] and sums to 1.
    """
    if hasattr(y_pred, "_keras_logits"):
        return True
    values = engines.concrete(y_pred)
    if values is None:
        return None
    if values.size == 0 or values.ndim < 2 or values.shape[-1] < 2:
        return False
    values = values.astype("float64")
    is_share = (values.min() >= 0) and (values.max() <= 1)
    return bool(is_share and np.abs(values.sum(axis=-1) - 1).max() < checks.SOFT_LABEL_TOLERANCE)


def read_labels(
    y_true: Tensor,
    form: OutputForm,
    ignore_class: int | None = None,
    weight: Tensor | None = None,
    dtype: str = "float32",
    name: str = "y_true",
    check_values: bool = True,
    batch: Any = None,
) -> RowLabels:
    """Reads labels as one label per row; see `read_output` for the arguments.

    `batch` is the size of the batch of logits, or None where there are no logits.
    """
    y_true = label_forms.to_numbers(y_true, name)
    if batch is not None and len(y_true.shape):
        y_true = engines.with_rows(y_true, batch)
    if form.units == 1 or form.num_problems is not None:
        _check_shape(y_true, form, name, soft=form.num_problems is not None)
        return label_forms.read_shares(
            flat(y_true), ignore_class, weight, name, dtype, check_values
        )
    if not _check_shape(y_true, form, name):
        return label_forms.read_indices(
            flat(y_true), form.num_classes, ignore_class, weight, name, check_values
        )
    if ignore_class is not None:
        raise ValueError(
            "`ignore_class` names a class index, and these labels are one-hot or soft. Leave rows "
            f"out by `sample_weight` 0, or pass indices. Received: ignore_class={ignore_class}, "
            f"labels of shape {tuple(y_true.shape)}"
        )
    soft = ops.cast(ops.reshape(y_true, (-1, form.num_classes)), dtype)
    return label_forms.read_soft(soft, weight, name, check_values)


def _check_shape(y_true, form, name, soft=None):
    """Returns True for one-hot or soft labels, False for indices; raises if neither fits."""
    shape = tuple(y_true.shape)
    leading, rank = form.leading, len(form.leading)
    has_axis = len(shape) == rank + 1
    last = shape[-1] if has_axis else None
    fits = all(
        one is None or other is None or one == other
        for one, other in zip(shape, leading, strict=False)
    )
    if fits and soft is not True and (len(shape) == rank or (has_axis and last == 1)):
        return False
    if fits and soft is not False and has_axis and last in (form.units, None) and form.units > 1:
        return True
    if fits and soft is True and has_axis and last in (form.units, None):
        return True
    if form.num_problems is not None:
        forms = f"0 or 1 of shape {_text(leading, form.units)}"
    elif form.units == 1:
        forms = f"0 or 1 of shape {_text(leading)} or {_text(leading, 1)}"
    else:
        forms = (
            f"class indices of shape {_text(leading)} or {_text(leading, 1)}, or one-hot or soft "
            f"labels of shape {_text(leading, form.units)}"
        )
    raise ValueError(
        f"For logits of shape {_text(leading, form.units)}, `{name}` must be {forms}. "
        f"Received: labels of shape {shape}"
    )


def _text(leading, *last):
    sizes = ["batch" if i == 0 and n is None else str(n) for i, n in enumerate(leading)]
    return f"({', '.join([*sizes, *map(str, last)])}{',' if len(sizes) + len(last) == 1 else ''})"


def _rows_of_logits(x, form, from_logits):
    x = ops.reshape(x, (-1, form.units)) if len(form.leading) > 1 else x
    is_binary = form.units == 1 or form.num_problems is not None
    if not from_logits:
        # What is no probability makes its row NaN, rather than train on a wrong loss.
        x = ops.where(ops.abs(x - 0.5) <= 0.5 + PROBABILITY_SLACK, x, math.nan)
        tiny = 1e-37 if keras.backend.standardize_dtype(x.dtype) == "float32" else 1e-300
        log_p = ops.log(ops.maximum(x, tiny))
        x = log_p - ops.log(ops.maximum(1 - x, tiny)) if is_binary else log_p
    if not is_binary:
        return x
    x = ops.reshape(x, (-1, 1))
    return ops.concatenate([ops.zeros_like(x), x], axis=-1)


def _rows_of_features(x, form):
    if len(x.shape) != len(form.leading) + 1:
        raise ValueError(
            "The features must have the leading axes of the logits. Received: features of shape "
            f"{tuple(x.shape)} for logits of shape {_text(form.leading, form.units)}"
        )
    return ops.reshape(x, (-1, x.shape[-1])) if len(form.leading) > 1 else x


def spread_weight(
    weight: Tensor | None, leading: tuple, shape: tuple, dtype: str, name: str = "sample_weight"
) -> Tensor | None:
    """Weights in the leading shape of the logits.

    Args:
        weight: A scalar, `(batch,)`, the leading shape or its first axes, each with a last axis of
            1 or without; or None.
        leading: Static leading shape of the logits.
        shape: The same, where needed as tensors.
        dtype: Of the result.
        name: What to call the weights in an error.
    """
    if weight is None:
        return None
    weight = ops.cast(ops.convert_to_tensor(weight), dtype)
    given = tuple(weight.shape)
    rank = len(leading)
    if len(given) == rank == 1 and given[0] is not None and given == leading:
        return weight
    has_last_axis = len(given) > 1 and given[-1] == 1 and _fits(given[:-1], leading)
    sizes = given[:-1] if has_last_axis else given
    if not _fits(sizes, leading):
        raise ValueError(
            f"`{name}` must have shape {_text(leading[:1])} or the logits' leading shape "
            f"{_text(leading)}. Received: {name} of shape {given}"
        )
    if not given:
        return ops.broadcast_to(weight, shape)
    weight = engines.with_rows(weight, shape[0])
    weight = ops.reshape(weight, (*ops.shape(weight)[: len(sizes)], *(1,) * (rank - len(sizes))))
    return weight if len(sizes) == rank else ops.broadcast_to(weight, shape)


def _fits(sizes, leading):
    return len(sizes) <= len(leading) and all(
        one is None or other is None or one == other
        for one, other in zip(sizes, leading, strict=False)
    )


def rows_of_weight(
    weight: Tensor | None, form: OutputForm, shape: tuple, dtype: str, name: str
) -> Tensor | None:
    """Weights of the rows, `(rows,)`, from weights of the samples; None stays None."""
    weight = spread_weight(weight, form.leading, shape, dtype, name)
    if weight is None:
        return None
    if form.num_problems is not None:
        weight = ops.broadcast_to(weight[..., None], (*shape, form.num_problems))
    return weight if len(weight.shape) == 1 else ops.reshape(weight, (-1,))


def check_counts(counts: Any, samples: Samples, name: str = "class_counts") -> None:
    """Raises `ValueError` unless there is one count for each class.

    Args:
        counts: As `keras_lpl.core.checks.class_counts` returns them.
        samples: The batch whose classes they are of.
        name: What to call the counts in an error.
    """
    shape = (len(counts), len(counts[0])) if isinstance(counts[0], tuple) else (len(counts),)
    if shape == samples.shape_by_class:
        return
    if samples.num_problems is not None:
        wanted = (
            f"shape {samples.shape_by_class} with `multi_label=True`: negatives and positives of "
            "each label (`keras_lpl.data.class_counts(y, multi_label=True)`)"
        )
    elif samples.num_classes == 2:
        wanted = "two entries, for a model of one logit the negatives and the positives"
    else:
        wanted = "one entry per class"
    hint = ""
    if len(shape) == 2 and samples.num_problems is None:
        hint = " Pairs of counts are those of several labels: pass `multi_label=True` to the loss."
    of_what = f"{samples.num_problems} labels"
    if samples.num_problems is None:
        of_what = f"{samples.num_classes} classes"
    raise ValueError(
        f"`{name}` must have {wanted}.{hint} Received: {math.prod(shape)} counts of shape {shape} "
        f"for logits of {of_what}"
    )


__all__ = [
    "PROBABILITY_SLACK",
    "OutputForm",
    "check_counts",
    "find_probabilities",
    "form_of",
    "read_labels",
    "read_output",
]
