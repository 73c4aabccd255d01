"""Equations of LPL that need the classes alone: which way each one is pushed, and how far.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. Equation numbers are the paper's. Arrays of one
number per class are `(classes,)`; for several labels `(labels, 2)`, each label a problem of its
own.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.numerics import divide_or_zero
from keras_lpl.core.typing import Counts, Tensor

# Rounding must not cost a step: 0.3 / 0.1 is 2.9999999999999996, and means 3.
_STEP_ROUNDING = 1e-6

# More steps than this take seconds a batch, and gain nothing.
MOST_STEPS = 5_000


def split_by_confidence(
    confidence: Tensor, threshold: float | str = "mean", weight: Tensor | None = None
) -> Tensor:
    """Direction by confidence: augments the classes the model is unsure of (Eq. 12).

    Args:
        confidence: `q_c`, `(classes,)`.
        threshold: `"mean"` for the mean confidence over the classes seen, or a number. Above
            every `q_c` it makes all classes positive.
        weight: `(classes,)` or None. Classes of weight 0 take no part in the mean.

    Returns:
        `(classes,)` of +1 (raise the loss) where `threshold - q_c >= 0`, else -1.

    Example:

    >>> direction = keras_lpl.functional.split_by_confidence([0.9, 0.2, 0.4], 0.5)
    >>> print(keras.ops.convert_to_numpy(direction))
    [-1.  1.  1.]
    """
    confidence = _to_float(confidence)
    threshold = _confidence_threshold(confidence, threshold, weight)
    # Rounding must not split classes of equal confidence, as all have before training.
    return ops.where(threshold - confidence >= -_NO_DIFFERENCE, 1.0, -1.0)


def split_by_frequency(class_counts: Counts | Tensor, threshold: float) -> Tensor:
    """Direction by frequency: holds the head back and augments the tail (Eq. 14).

    Args:
        class_counts: Training counts `(classes,)`, in any class order.
        threshold: End of the head, counted from the most frequent class: a number of classes, or
            below 1 a share of them.

    Returns:
        `(classes,)` of -1 for the head, +1 for the tail. Classes of equal count are never torn
        apart, as that would make the result depend on class order: they go to the side on which
        more than half of them lie.

    Example:

    >>> direction = keras_lpl.functional.split_by_frequency([5, 100, 40], 1)
    >>> print(keras.ops.convert_to_numpy(direction))
    [ 1. -1.  1.]
    """
    counts, xp = _counts_and_namespace(class_counts)
    return ops.convert_to_tensor(_frequency_direction(counts, threshold, xp), "float32")


def split_by_log_frequency(class_counts: Counts | Tensor) -> Tensor:
    """Direction by frequency without a threshold: the geometric mean of the counts splits.

    Args:
        class_counts: Training counts `(classes,)`, in any class order.

    Returns:
        `(classes,)` of -1 for classes above the geometric mean, +1 for the others.

    Example:

    >>> direction = keras_lpl.functional.split_by_log_frequency([5, 100, 40])
    >>> print(keras.ops.convert_to_numpy(direction))
    [ 1. -1. -1.]
    """
    counts, xp = _counts_and_namespace(class_counts)
    return ops.convert_to_tensor(_log_frequency_direction(counts, xp), "float32")


def bound_by_confidence(
    confidence: Tensor,
    threshold: float | str = "mean",
    epsilon: float = 0.0,
    delta_epsilon: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Bound of each class, growing with its distance from the threshold (Eq. 18).

    `eps_c = epsilon + delta_epsilon * |threshold - q_c|`. With `delta_epsilon=0` the bound is
    the fixed one.

    Args:
        confidence: `q_c`, `(classes,)`.
        threshold: As in `split_by_confidence`.
        epsilon: Part that all classes share, in units of the logits.
        delta_epsilon: Factor on the part that varies.
        weight: As in `split_by_confidence`.

    Returns:
        `eps_c`, `(classes,)`.

    Example:

    >>> bound = keras_lpl.functional.bound_by_confidence([0.9, 0.25], 0.5, 0.1, 0.4)
    >>> print(keras.ops.convert_to_numpy(bound).round(3))
    [0.26 0.2 ]
    """
    confidence = _to_float(confidence)
    threshold = _confidence_threshold(confidence, threshold, weight)
    return epsilon + delta_epsilon * ops.abs(threshold - confidence)


def bound_by_frequency(
    class_counts: Counts | Tensor,
    threshold: float,
    epsilon: float = 0.0,
    delta_epsilon: float = 0.0,
    head_scale: float = 1.0,
) -> Tensor:
    """Bound of each class, largest for the most and the least frequent (Eq. 18).

    `eps_c = epsilon + delta_epsilon * r_c`, with `r_c = head_scale * N_c / N_max` in the head and
    `r_c = N_min / N_c` in the tail. With `delta_epsilon=0` the bound is the fixed one.

    Args:
        class_counts: Training counts `(classes,)`, in any class order.
        threshold: As in `split_by_frequency`.
        epsilon: Part that all classes share, in units of the logits.
        delta_epsilon: Factor on the part that varies.
        head_scale: Further factor on the head's varying part.

    Returns:
        `eps_c`, `(classes,)`.

    Example:

    >>> bound = keras_lpl.functional.bound_by_frequency([100, 50, 10, 5], 2, 0.0, 1.0)
    >>> print(keras.ops.convert_to_numpy(bound))
    [1.  0.5 0.5 1. ]
    """
    counts, xp = _counts_and_namespace(class_counts)
    ratio = _frequency_ratio(counts, threshold, head_scale, xp)
    bound = epsilon + delta_epsilon * ratio
    return ops.convert_to_tensor(bound, "float32")


def bound_by_log_frequency(
    class_counts: Counts | Tensor,
    epsilon: float = 0.0,
    delta_epsilon: float = 1.0,
    head_scale: float = 1.0,
) -> Tensor:
    """Bound of each class, growing with the logarithm of its count's ratio to the mean.

    `eps_c = epsilon + delta_epsilon * |log N_c - mean log N|`, the head's varying part times
    `head_scale`. Not of the paper: its ratio bound moves only the few rarest classes, this one all
    of them, in proportion to the imbalance that logit adjustment corrects.

    Args:
        class_counts: Training counts `(classes,)`, in any class order.
        epsilon: Part that all classes share, in units of the logits.
        delta_epsilon: Factor on the part that varies.
        head_scale: Further factor on the varying part of classes above the geometric mean.

    Returns:
        `eps_c`, `(classes,)`.

    Example: the counts' geometric mean is 10.

    >>> bound = keras_lpl.functional.bound_by_log_frequency([100, 10, 1])
    >>> print(keras.ops.convert_to_numpy(bound).round(3))
    [2.303 0.    2.303]
    """
    counts, xp = _counts_and_namespace(class_counts)
    bound = epsilon + delta_epsilon * _log_frequency_ratio(counts, head_scale, xp)
    return ops.convert_to_tensor(bound, "float32")


def direction_and_bound_by_frequency(
    class_counts: Counts,
    bound: str,
    threshold: float | None,
    epsilon: float,
    delta_epsilon: float,
    head_scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Direction and bound of each class as NumPy arrays, known before training.

    They are the ones of `split_by_frequency` and `bound_by_frequency`, or with
    `bound="logarithmic"` of `split_by_log_frequency` and `bound_by_log_frequency`.
    """
    counts = np.asarray(class_counts, "float64")
    if bound == "logarithmic":
        direction = _log_frequency_direction(counts, np)
        ratio = _log_frequency_ratio(counts, head_scale, np)
    else:
        direction = _frequency_direction(counts, threshold, np)
        ratio = _frequency_ratio(counts, threshold, head_scale, np)
    found = direction.astype("float32"), (epsilon + delta_epsilon * ratio).astype("float32")
    for array in found:
        array.flags.writeable = False
    return found


def scale_by_confidence(bound: Tensor, confidence: Tensor, power: float) -> Tensor:
    """Bound that follows training: `eps_c * q_c^power`.

    A class is pushed as far as it is learnt: at the start of training, or where the network
    underfits, hardly at all, and by the whole bound once every sample of the class is memorised.
    There the loss of unperturbed logits has no gradient left, and the push is what still moves the
    decision boundary.

    Args:
        bound: `eps_c`, `(classes,)`.
        confidence: `q_c`, `(classes,)`.
        power: At least 0; 0 leaves the bound as it is.

    Returns:
        `(classes,)`.

    Example:

    >>> bound = keras_lpl.functional.scale_by_confidence([2.0, 2.0], [1.0, 0.5], power=2)
    >>> print(keras.ops.convert_to_numpy(bound))
    [2.  0.5]
    """
    if power == 0:
        return _to_float(bound)
    confidence = _to_float(confidence)
    if isinstance(bound, np.ndarray):
        return engines.constant(bound, confidence) * confidence**power
    return _to_float(bound) * confidence**power


def num_steps(bound: Tensor, step_size: float) -> Tensor:
    """Number of steps that fit into the bound: `K_c = floor(eps_c / step_size)` (Eq. 19).

    Args:
        bound: `eps_c`, `(classes,)`.
        step_size: `alpha`, the length of a step, in units of the logits.

    Returns:
        int32 `(classes,)`. Robust to rounding: a bound of 0.3 holds 3 steps of 0.1.

    Raises:
        ValueError: for more than 5,000 steps; of a tensor, they are cut off there.

    Example:

    >>> print(keras.ops.convert_to_numpy(keras_lpl.functional.num_steps([0.3, 0.29], 0.1)))
    [3 2]
    """
    if not is_tensor(bound):
        largest = float(np.max(np.asarray(bound, "float64"), initial=0.0) / step_size)
        check_num_steps(largest, f"step_size={step_size:g}")
    ratio = _to_float(bound) / step_size
    steps = ops.floor(ratio * (1 + _STEP_ROUNDING))
    return ops.cast(ops.minimum(steps, float(MOST_STEPS)), "int32")


def check_num_steps(steps: float, received: str) -> None:
    """Raises `ValueError` for more steps in a batch than anybody can wait for."""
    if steps > MOST_STEPS * (1 + _STEP_ROUNDING):
        raise ValueError(
            f"A class would take {steps:.4g} steps in every batch, and {MOST_STEPS} is the most. "
            "Choose a larger `step_size`, or one step of the length of the bound (`num_steps=1`, "
            f"`perturb_logits_at_once`). Received: {received}"
        )


# Classes of equal count must have no direction by rounding.
_NO_DIFFERENCE = 1e-5


def _counts_and_namespace(class_counts):
    """Counts as floats, and what computes with them: NumPy, or `keras.ops` for tensors.

    Counts are nearly always plain numbers. On JAX every operation on a tensor is a program to
    compile, and a dozen of them would cost a second before training begins.
    """
    if not is_tensor(class_counts):
        return np.asarray(class_counts, "float64"), np
    return _to_float(class_counts), ops


def _frequency_direction(counts, threshold, xp):
    """`split_by_frequency` with the operations of `xp`."""
    classes = counts.shape[-1]
    head_size = threshold if threshold >= 1 else threshold * classes
    if len(counts.shape) == 1:
        ascending = xp.sort(counts)
        rarer = xp.searchsorted(ascending, counts, side="left")
        rarer_or_equal = xp.searchsorted(ascending, counts, side="right")
    else:  # of two classes each
        one, other = counts[..., :, None], counts[..., None, :]
        rarer = xp.count_nonzero(other < one, axis=-1)
        rarer_or_equal = xp.count_nonzero(other <= one, axis=-1)
    # Mid-rank from the most frequent class: 0.5, 1.5, ...; ties share the mean of theirs.
    rank = classes - 0.5 * (rarer + rarer_or_equal)
    return xp.where(rank < head_size, -1.0, 1.0)


def _frequency_ratio(counts, threshold, head_scale, xp):
    is_head = _frequency_direction(counts, threshold, xp) < 0
    head = head_scale * counts / xp.max(counts, axis=-1, keepdims=True)
    tail = xp.min(counts, axis=-1, keepdims=True) / counts
    return xp.where(is_head, head, tail)


def _log_frequency(counts, xp):
    """`log N_c` less its mean over the classes."""
    log_counts = xp.log(counts)
    return log_counts - xp.mean(log_counts, axis=-1, keepdims=True)


def _log_frequency_direction(counts, xp):
    return xp.where(_log_frequency(counts, xp) > _NO_DIFFERENCE, -1.0, 1.0)


def _log_frequency_ratio(counts, head_scale, xp):
    difference = _log_frequency(counts, xp)
    return xp.where(difference > _NO_DIFFERENCE, head_scale, 1.0) * xp.abs(difference)


def is_tensor(x: Any) -> bool:
    """True for a tensor of the backend, whose values may not be at hand."""
    return hasattr(x, "dtype") and not isinstance(x, (np.ndarray, np.generic))


def _to_float(x: Any) -> Tensor:
    if not is_tensor(x):
        x = np.asarray(x, "float32")  # counts beyond int32 too
    return ops.cast(ops.convert_to_tensor(x), "float32")


def _confidence_threshold(confidence, threshold, weight):
    if not isinstance(threshold, str):
        return threshold
    checks.one_of(threshold, "threshold", ["mean"])
    if weight is None:
        return ops.mean(confidence, axis=-1, keepdims=True)
    seen = ops.cast(ops.convert_to_tensor(weight) > 0, confidence.dtype)
    total = ops.sum(confidence * seen, axis=-1, keepdims=True)
    return divide_or_zero(total, ops.sum(seen, axis=-1, keepdims=True))
