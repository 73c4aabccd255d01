"""Keras's masks: which steps of a sequence are padding."""

from typing import Any

from keras_lpl.core.typing import Tensor

try:  # On JAX, where tensors take no attributes, Keras keeps masks in a table of its own.
    from keras.src.backend.common.masking import get_keras_mask
except ImportError:  # pragma: no cover

    def get_keras_mask(x: Any) -> Any:
        """Mask of a tensor."""
        return getattr(x, "_keras_mask", None)


def mask_of(y_pred: Tensor) -> Tensor | None:
    """Mask that Keras's layers have given a tensor, False for padding; None if there is none."""
    return get_keras_mask(y_pred)
