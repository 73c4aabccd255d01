"""Keras's masks: which steps of a sequence are padding."""

from typing import Any

from keras_lpl.core.typing import Tensor

try:  # On JAX, where tensors take no attributes, Keras keeps masks in a table of its own.
    from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
except ImportError:  # pragma: no cover

    def set_keras_mask(x: Any, mask: Any) -> None:
        """Gives a tensor a mask."""
        x._keras_mask = mask

    def get_keras_mask(x: Any) -> Any:
        """Mask of a tensor."""
        return getattr(x, "_keras_mask", None)


def mask_of(y_pred: Tensor) -> Tensor | None:
    """Mask that Keras's layers have given a tensor, False for padding; None if there is none."""
    return get_keras_mask(y_pred)


def give_mask(y_pred: Tensor, mask: Tensor | None) -> None:
    """Gives a tensor the mask of another one; None leaves it as it is."""
    if mask is not None:
        set_keras_mask(y_pred, mask)
