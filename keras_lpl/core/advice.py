"""Warnings of a model that does not fit its loss: a softmax before it, or class weights beside it.

Both train without an error, and badly. A loss sees neither the model nor `class_weight`, so they
are looked up where `fit` was called. Only warnings depend on what is found there.
"""

import sys
import warnings
from typing import Any

import keras

from keras_lpl.core.last_layer import probability_of


def training_call() -> tuple[Any, Any]:
    """The model and the `class_weight` of the call of `fit` that this one happens in, or Nones."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in ("fit", "train_on_batch"):
            found = frame.f_locals
            if isinstance(found.get("self"), keras.Model) and "class_weight" in found:
                return found["self"], found["class_weight"]
        frame = frame.f_back  # type: ignore[assignment]
    return None, None


def ends_in_probabilities(model: Any) -> bool | None:
    """True if every output of a model is probabilities; None if its layers cannot be seen."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    return all(probability_of(output) is not None for output in outputs)


def warn_of_probabilities(loss: Any) -> None:
    """Warns of probabilities before a loss of logits."""
    warnings.warn(
        f"`{type(loss).__name__}` takes logits, and the model's output is probabilities. "
        "Take the softmax or sigmoid off the last layer, which is better, or pass "
        "`from_logits=False` to the loss.",
        stacklevel=4,
    )


def warn_of_two_corrections(loss: Any, what: str, stacklevel: int = 3) -> None:
    """Warns where class weights come on top of a loss that corrects for the counts already."""
    if getattr(loss, "corrects_prior", False):
        warnings.warn(
            f"`{type(loss).__name__}` corrects for the class counts already. With {what} as well, "
            f"rare classes will be predicted too often. Leave {what} out, or take a loss without "
            "counts.",
            stacklevel=stacklevel,
        )
