"""Softmax cross-entropy of rows of logits."""

from keras import ops

from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def crossentropy(samples: Samples, logits: Tensor | None = None) -> Tensor:
    """Cross-entropy of each row, `(rows,)`.

    Args:
        samples: The batch.
        logits: `(rows, classes)`, in place of the batch's own.
    """
    logits = samples.logits if logits is None else logits
    if samples.has_soft_labels:
        return ops.categorical_crossentropy(samples.labels, logits, from_logits=True)
    return ops.sparse_categorical_crossentropy(samples.labels, logits, from_logits=True)
