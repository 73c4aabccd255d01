"""Checks of what a user passes to `fit`: compiled code cannot raise when it gets to see it."""

from typing import Any

import keras
import numpy as np

from keras_lpl import engines
from keras_lpl.core.advice import warn_of_two_corrections
from keras_lpl.core.labels import to_numbers
from keras_lpl.core.masks import mask_of
from keras_lpl.core.outputs import form_of, read_labels
from keras_lpl.models.plan import Plan, part_of

# Labels that are looked at: enough to see how they are numbered, without reading a data set twice.
_MOST_LABELS = 1_000_000


def check_fit(plan: Plan, arguments: dict[str, Any]) -> None:
    """Checks labels and class weights given to `fit`, by the names of its arguments.

    Raises:
        ValueError: for labels that their loss cannot take, or class weights that Keras would apply
            to other classes than meant.
    """
    for name in ("x", "y"):
        _check_not_empty(arguments.get(name), name)
    if arguments.get("class_weight") is not None:
        check_class_weight(plan)
    y = arguments.get("y")
    if y is None or arguments.get("sample_weight") is not None:
        return  # a row of weight 0 may have any label
    outputs = tuple(each.output for each in plan.outputs)
    for each in plan.outputs:
        if each.loss is not None and mask_of(each.output.tensor) is None:
            of_output = y
            if keras.tree.is_nested(y):
                of_output = part_of(y, each.output, outputs, "y")
            _check_labels(of_output, each)


def _check_not_empty(data, name):
    """Refuses arrays and data sets without a sample, as far as it can be seen."""
    shape = getattr(data, "shape", None)
    received = None
    if shape is not None:
        received = f"{name} of shape {tuple(shape)}" if tuple(shape)[:1] == (0,) else None
    elif hasattr(data, "__len__") and not isinstance(data, (list, tuple, dict)):
        try:
            received = f"{type(data).__name__} without batches" if len(data) == 0 else None
        except TypeError:  # it does not know its length
            return
    if received:
        raise ValueError(f"`{name}` is empty: there is nothing to train on. Received: {received}")


def _check_labels(y, plan):
    given = y
    if isinstance(y, list):
        y = to_numbers(y, "y")
    if not hasattr(y, "__array__"):
        return  # seen batch by batch
    y = engines.concrete(y)
    if y is None or y.ndim == 0:
        return
    loss, form = plan.loss, form_of(plan.output.tensor.shape, plan.loss.multi_label)
    of_sample = max(1, int(np.prod(y.shape[1:], dtype="int64")))
    y = y[: max(1, _MOST_LABELS // of_sample)]
    read_labels(y, form, loss.ignore_class, None, loss.dtype, name="y")
    if isinstance(given, list):
        raise ValueError(
            "`y` must be an array or a tensor: Keras takes a list for one entry for each output. "
            f"Pass `np.asarray(y)`. Received: a list of {len(given)} labels"
        )


def check_class_weight(plan: Plan) -> None:
    """Checks that `class_weight` goes with every output.

    Raises:
        ValueError: if Keras would apply the weights to other classes than meant.
    """
    for each in plan.outputs:
        warn_of_two_corrections(each.loss, "`class_weight`", stacklevel=6)
        several = each.loss is not None and each.loss.multi_label
        if several or len(each.output.tensor.shape) > 2:
            raise ValueError(
                "Keras reads `class_weight` by one class for each sample, and this model has "
                f"{'several labels' if several else 'a label for each pixel or token'} of a "
                "sample. Take the callback `keras_lpl.callbacks.DeferredReweighting(class_counts, "
                "start_epoch=0, class_weight=[...])`, or `keras_lpl.ClassBalancedLoss"
                f"(class_counts)`. Received: class_weight for the output {each.output.name!r} of "
                f"shape {tuple(each.output.tensor.shape)}"
            )
