"""Softmax cross-entropy of rows of logits."""

from keras import ops

from keras_lpl import engines
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
        # Not Keras's, which is one operation on TensorFlow: the derivative of its gradient by the
        # labels, which a corrector of labels learns from, comes out as zero there.
        return -ops.sum(samples.labels * ops.log_softmax(logits, axis=-1), axis=-1)
    return engines.crossentropy_of_indices(samples.labels, logits)
