"""`CorrectedLoss`: cross-entropy under known label noise.

    T_jc = P(label c | true class j)

    loss_i = -log sum_j p_ij T_jy                   forward:  noise put on the prediction
    loss_i = -sum_c (T^-1)_yc log p_ic              backward: noise taken off the loss

Patrini, Rozza, Menon, Nock, Qu: "Making Deep Neural Networks Robust to Label Noise: a Loss
Correction Approach", CVPR 2017, Theorems 2 (forward) and 1 (backward).
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

# Stands in for log 0. Next to it, any probability that a trained model gives is large.
_LOG_OF_ZERO = -1e4

# A backward correction multiplies losses, and their rounding, by up to about this number.
_LARGEST_CONDITION = 1e4


def forward_corrected_crossentropy(samples: Samples, log_transition: Tensor) -> Tensor:
    """`-log (p T)_y` of each row.

    Args:
        samples: The batch.
        log_transition: `(num_classes, num_classes)`, finite: `log P(label | true class)`, a true
            class per row.

    Returns:
        `(rows,)`. Soft labels take `rows * classes^2` memory.
    """
    log_p = ops.log_softmax(samples.logits, axis=-1)
    log_of_label = ops.transpose(log_transition)
    if not samples.has_soft_labels:
        log_of_label = samples.of_own_class(log_of_label)
        return -ops.logsumexp(log_p + log_of_label, axis=-1)
    log_p_of_label = ops.logsumexp(log_p[:, None, :] + log_of_label, axis=-1)
    return -ops.sum(samples.labels * log_p_of_label, axis=-1)


def backward_corrected_crossentropy(samples: Samples, inverse: Tensor) -> Tensor:
    """`-(T^-1 log p)_y` of each row.

    Args:
        samples: The batch.
        inverse: `(num_classes, num_classes)`, the inverse of the transition matrix.

    Returns:
        `(rows,)`.
    """
    weights = samples.of_own_class(inverse)
    return -ops.sum(weights * ops.log_softmax(samples.logits, axis=-1), axis=-1)


@register
class CorrectedLoss(ClassificationLoss):
    """Loss correction: cross-entropy for labels whose noise is known as a transition matrix.

    Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach",
    CVPR 2017. With either method the model learns to predict the true class:

    - `"forward"`, `-log (p T)_y`, compares the label with the prediction after noise. Its minimum
      is that of cross-entropy on clean labels.
    - `"backward"`, `-(T^-1 log p)_y`, is a loss whose mean over the noise is the cross-entropy of
      the clean label. It can be negative, has no lower bound, and varies more; the paper finds
      forward to train better.

    In an `LPLModel`, evaluation is plain cross-entropy of the raw logits, as is right for clean
    validation labels; in any other `keras.Model`, `val_loss` is corrected too.

    Args:
        transition: `(num_classes, num_classes)`, `T[j][c]` the probability that a sample of true
            class `j` is labelled `c`. Rows sum to 1. Zeros are fine; a label that no class can
            have costs 10,000 in the forward method and teaches nothing.
        method: `"forward"` (default) or `"backward"`.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: if the matrix is not square, has a negative entry or a row that does not sum to
            1, or is close to singular (`"backward"`); or, when called, if it is not of the size of
            the logits.

    Example: a tenth of the first class is labelled as the second.

    >>> loss = keras_lpl.CorrectedLoss([[0.9, 0.1], [0.0, 1.0]])
    >>> print(round(float(loss(np.array([1]), np.array([[20.0, 0.0]]))), 4))
    2.3026
    """

    supports_multi_label = False

    def __init__(
        self,
        transition: Any,
        method: str = "forward",
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "corrected_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        matrix = _check_transition(transition)
        self.method = checks.one_of(method, "method", ("forward", "backward"))
        self.transition = matrix.tolist()
        factor = _log(matrix) if self.method == "forward" else _inverse(matrix)
        self._factor = factor.astype(self.dtype)

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        classes = samples.num_classes
        if len(self.transition) != classes:
            size = len(self.transition)
            raise ValueError(
                "`transition` must have one row and one column per class. Received: a "
                f"{size} x {size} matrix for logits of {classes} classes"
            )
        factor = ops.convert_to_tensor(self._factor, dtype=samples.logits.dtype)
        if self.method == "forward":
            return forward_corrected_crossentropy(samples, factor)
        return backward_corrected_crossentropy(samples, factor)

    def get_config(self) -> dict[str, Any]:
        return {"transition": self.transition, "method": self.method, **super().get_config()}


def _log(matrix):
    zero = matrix == 0
    return np.where(zero, _LOG_OF_ZERO, np.log(np.where(zero, 1.0, matrix)))


def _inverse(matrix):
    condition = np.linalg.cond(matrix)
    if not condition <= _LARGEST_CONDITION:
        raise ValueError(
            "`transition` is too close to singular for `method='backward'`, which inverts it: some "
            "classes are labelled almost alike. Merge them, or use method='forward'. Received: a "
            f"matrix of condition number {condition:.3g}, above {_LARGEST_CONDITION:g}"
        )
    return np.linalg.inv(matrix)


def _check_transition(transition):
    if hasattr(transition, "shape"):
        transition = ops.convert_to_numpy(transition)
    try:
        matrix = np.asarray(transition, dtype="float64")
    except (TypeError, ValueError):
        matrix = np.zeros((0, 0))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        received = f"shape {matrix.shape}" if matrix.size else repr(transition)
        raise ValueError(
            "`transition` must be a square matrix with a row and a column for each of at least two "
            f"classes: transition[j][c] = P(label c | true class j). Received: {received}"
        )
    bad = np.argwhere(~(matrix >= 0))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            "`transition` holds probabilities and cannot be negative. Received: "
            f"transition[{row}][{column}]={matrix[row, column]:g}"
        )
    sums = matrix.sum(axis=1)
    off = np.flatnonzero(~(np.abs(sums - 1) < 1e-4))
    if off.size:
        hint = ""
        if np.all(np.abs(matrix.sum(axis=0) - 1) < 1e-4):
            hint = " Its columns do: transpose it."
        raise ValueError(
            "The rows of `transition` must sum to 1: row j spreads true class j over the labels. "
            f"Divide each row by its sum.{hint} Received: row {off[0]} with sum {sums[off[0]]:g}"
        )
    return matrix
