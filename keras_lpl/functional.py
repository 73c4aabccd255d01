"""Logit perturbation (LPL) as pure functions of tensors: the equations of the paper.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. Equation numbers are the paper's.

    confidence  q_c      mean probability of the true class           `class_confidence`     Eq. 13
    direction   s_c      +1 raises the class's loss, -1 lowers it     `split_by_confidence`  Eq. 12
                                                                      `split_by_frequency`   Eq. 14
    bound       eps_c    how far class c may be pushed                `bound_by_confidence`  Eq. 18
                                                                      `bound_by_frequency`   Eq. 18
    steps       K_c      floor(eps_c / alpha)                         `num_steps`            Eq. 19
    loop        delta_c  K_c steps of ascent or descent               `perturb_logits`       Alg. 2

Everywhere: `logits` are `(batch, num_classes)`; `labels` are class indices `(batch,)` or soft
labels `(batch, num_classes)`; `sample_weight` is `(batch,)`, and a sample of weight 0 has no
influence on any class. Results are float32 whatever the precision of the inputs, except that
float64 logits give float64 logits, losses and confidences. Nothing here looks at values, so
everything can be compiled; a label that is not a class, or a logit that is not finite, makes its
own sample's result NaN and touches no other.
"""

import math

import keras
from keras import ops

from keras_lpl.core import checks
from keras_lpl._ascent import shift_of_classes, shift_of_soft_labels
from keras_lpl._numerics import divide_or_zero, finite_rows

# Rounding must not cost a step: 0.3 / 0.1 is 2.9999999999999996, and means 3.
_STEP_ROUNDING = 1e-6


# --- Confidence and cross-entropy -----------------------------------------------------------


def softmax_crossentropy(labels, logits):
    """Cross-entropy of each sample, from logits.

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`.

    Returns:
        `(batch,)`, NaN where the label is not a class or a logit is not finite.

    Example:

    >>> loss = keras_lpl.functional.softmax_crossentropy([0], [[0.0, 0.0]])
    >>> print(round(float(loss[0]), 4))
    0.6931
    """
    labels, logits = _standardize(labels, logits)
    if len(labels.shape) == 2:
        loss = ops.categorical_crossentropy(labels, logits, from_logits=True)
    else:
        known = ops.maximum(labels, 0)
        loss = ops.sparse_categorical_crossentropy(known, logits, from_logits=True)
        loss = ops.where(labels < 0, math.nan, loss)
    return ops.where(finite_rows(logits), loss, math.nan)


def class_membership(labels, logits):
    """How much of each class a sample is: soft labels as they are, class indices as one-hot.

    What depends on a sample's class can be written with it for both kinds of labels: a row `m` of
    one number per class gives each sample its own by `sum(class_membership * m, axis=-1)`.

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`, for the number of classes and the precision.

    Returns:
        `(batch, num_classes)`; zeros for a label that is not a class.

    Example:

    >>> print(keras.ops.convert_to_numpy(
    ...     keras_lpl.functional.class_membership(np.array([1]), np.zeros((1, 3)))))
    [[0. 1. 0.]]
    """
    labels, logits = _standardize(labels, logits)
    if len(labels.shape) == 2:
        return labels
    return ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def class_confidence(labels, logits, sample_weight=None):
    """Mean probability that the samples of a class give to their class (Eq. 13).

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`. A soft label
            spreads its sample's weight over the classes.
        logits: `(batch, num_classes)`.
        sample_weight: `(batch,)` or None.

    Returns:
        `(confidence, weight)`, both `(num_classes,)`: the confidence `q_c`, and the weight seen
        of each class. Where that is 0 the class was not there; its confidence is given as 0, and
        means over classes leave it out when they are given `weight`.

    Example:

    >>> confidence, weight = keras_lpl.functional.class_confidence([0, 0], [[0.0, 0.0]] * 2)
    >>> print(keras.ops.convert_to_numpy(confidence))
    [0.5 0. ]
    >>> print(keras.ops.convert_to_numpy(weight))
    [2. 0.]
    """
    labels, logits = _standardize(labels, logits)
    logits = ops.stop_gradient(logits)
    is_finite = finite_rows(logits)
    sample_weight = _effective_weight(labels, is_finite, sample_weight, logits.dtype)
    # Such samples have no part in any mean, but NaN times 0 is still NaN.
    probability = ops.softmax(ops.where(is_finite[:, None], logits, 0.0), axis=-1)
    classes = logits.shape[-1]
    if len(labels.shape) == 2:
        membership = labels * sample_weight[:, None]
        total = ops.sum(membership * probability, axis=0)
        weight = ops.sum(membership, axis=0)
    else:
        known = ops.maximum(labels, 0)
        of_true_class = ops.take_along_axis(probability, known[:, None], axis=1)[:, 0]
        both = ops.stack([sample_weight * of_true_class, sample_weight], axis=-1)
        both = ops.segment_sum(both, known, num_segments=classes)
        total, weight = both[:, 0], both[:, 1]
    return divide_or_zero(total, weight), weight


# --- Which way, and how far -----------------------------------------------------------------


def split_by_confidence(confidence, threshold="mean", weight=None):
    """Direction by confidence: augment the classes the model is unsure of (Eq. 12).

    Args:
        confidence: `(num_classes,)`, `q_c`.
        threshold: `"mean"` for the mean confidence over the classes seen, or a number. Above
            every `q_c` it makes all classes positive.
        weight: `(num_classes,)` or None. Classes of weight 0 take no part in the mean.

    Returns:
        `(num_classes,)` of +1 (raise the loss) where `threshold - q_c >= 0`, else -1.

    Example:

    >>> direction = keras_lpl.functional.split_by_confidence([0.9, 0.2, 0.4], 0.5)
    >>> print(keras.ops.convert_to_numpy(direction))
    [-1.  1.  1.]
    """
    confidence = _to_float(confidence)
    threshold = _confidence_threshold(confidence, threshold, weight)
    return ops.where(threshold - confidence >= 0, 1.0, -1.0)


def split_by_frequency(class_counts, threshold):
    """Direction by frequency: hold the head back, augment the tail (Eq. 14).

    Args:
        class_counts: `(num_classes,)` training counts, in any class order.
        threshold: Where the head ends, counted from the most frequent class: a number of
            classes, or below 1 a share of them.

    Returns:
        `(num_classes,)` of -1 for the head, +1 for the tail. Classes of equal count are never
        torn apart, as that would make the result depend on class order: they go to the side on
        which more than half of them lie.

    Example:

    >>> direction = keras_lpl.functional.split_by_frequency([5, 100, 40], 1)
    >>> print(keras.ops.convert_to_numpy(direction))
    [ 1. -1.  1.]
    """
    class_counts = _to_float(class_counts)
    classes = class_counts.shape[0]
    head_size = threshold if threshold >= 1 else threshold * classes
    ascending = ops.sort(class_counts)
    rarer = ops.searchsorted(ascending, class_counts, side="left")
    rarer_or_equal = ops.searchsorted(ascending, class_counts, side="right")
    # Mid-rank from the most frequent class: 0.5, 1.5, ...; ties share the mean of theirs.
    rank = classes - 0.5 * ops.cast(rarer + rarer_or_equal, class_counts.dtype)
    return ops.where(rank < head_size, -1.0, 1.0)


def bound_by_confidence(confidence, threshold="mean", epsilon=0.0, delta_epsilon=0.0, weight=None):
    """Bound of each class, growing with its distance from the threshold (Eq. 18).

    `eps_c = epsilon + delta_epsilon * |threshold - q_c|`. With `delta_epsilon=0` the bound is
    the fixed one.

    Args:
        confidence: `(num_classes,)`, `q_c`.
        threshold: As in `split_by_confidence`.
        epsilon: The part all classes share, in units of the logits.
        delta_epsilon: Factor on the part that varies.
        weight: As in `split_by_confidence`.

    Returns:
        `(num_classes,)`, `eps_c`.

    Example:

    >>> bound = keras_lpl.functional.bound_by_confidence([0.9, 0.25], 0.5, 0.1, 0.4)
    >>> print(keras.ops.convert_to_numpy(bound).round(3))
    [0.26 0.2 ]
    """
    confidence = _to_float(confidence)
    threshold = _confidence_threshold(confidence, threshold, weight)
    return epsilon + delta_epsilon * ops.abs(threshold - confidence)


def bound_by_frequency(class_counts, threshold, epsilon=0.0, delta_epsilon=0.0, head_scale=1.0):
    """Bound of each class, largest for the most and the least frequent (Eq. 18).

    `eps_c = epsilon + delta_epsilon * r_c`, with `r_c = head_scale * N_c / N_max` in the head and
    `r_c = N_min / N_c` in the tail. With `delta_epsilon=0` the bound is the fixed one.

    Args:
        class_counts: `(num_classes,)` training counts, in any class order.
        threshold: As in `split_by_frequency`.
        epsilon: The part all classes share, in units of the logits.
        delta_epsilon: Factor on the part that varies.
        head_scale: Further factor on the head's varying part.

    Returns:
        `(num_classes,)`, `eps_c`.

    Example:

    >>> bound = keras_lpl.functional.bound_by_frequency([100, 50, 10, 5], 2, 0.0, 1.0)
    >>> print(keras.ops.convert_to_numpy(bound))
    [1.  0.5 0.5 1. ]
    """
    class_counts = _to_float(class_counts)
    is_head = split_by_frequency(class_counts, threshold) < 0
    head = head_scale * class_counts / ops.max(class_counts)
    tail = ops.min(class_counts) / class_counts
    return epsilon + delta_epsilon * ops.where(is_head, head, tail)


def num_steps(bound, step_size):
    """Number of steps that fit into the bound: `K_c = floor(eps_c / step_size)` (Eq. 19).

    Args:
        bound: `(num_classes,)`, `eps_c`.
        step_size: `alpha`, the length of a step, in units of the logits.

    Returns:
        int32 `(num_classes,)`. Robust to rounding: a bound of 0.3 holds 3 steps of 0.1.

    Example:

    >>> print(keras.ops.convert_to_numpy(keras_lpl.functional.num_steps([0.3, 0.29], 0.1)))
    [3 2]
    """
    ratio = _to_float(bound) / step_size
    return ops.cast(ops.floor(ratio * (1 + _STEP_ROUNDING)), "int32")


# --- The loop -------------------------------------------------------------------------------


def perturb_logits(
    labels,
    logits,
    direction,
    num_steps,
    step_size,
    normalize_gradient=True,
    sample_weight=None,
):
    """Pushes each class's logits by a PGD-like ascent or descent on its own loss (Algorithm 2).

    For each class `c` in the batch, `num_steps[c]` times:

        g_c      = mean over the samples of c of  softmax(u_i + delta_c) - onehot(c)    (Eq. 16)
        delta_c += direction_c * step_size * g_c / |g_c|                                (Eq. 17)

    and `u_i + delta_{y_i}` is returned. `delta` is a constant for back-propagation.

    Steps of unit length keep `|delta_c| <= num_steps[c] * step_size <= eps_c`, and push a class
    that is already learnt as far as one that is not, as long as float32 holds its gradient: up to
    a lead of about 90 over all other logits. With `normalize_gradient=False` the step is
    `step_size * g_c`, Eqs. 16-17 as printed: it fades as the class is learnt.

    With soft labels membership is a weight: `g_c = sum_i y_ic (p_i - y_i) / sum_i y_ic`, and
    sample `i` is shifted by `sum_c y_ic delta_c`. One-hot labels give back the above.

    Only classes in the batch cost anything: time per step is O(batch * num_classes), memory
    O(batch * num_classes), for soft labels a factor min(batch, num_classes) more time.

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`.
        logits: `(batch, num_classes)`, `u`.
        direction: `(num_classes,)` of +1 (raise the loss) or -1 (lower it).
        num_steps: int `(num_classes,)`, `K_c`.
        step_size: `alpha`, in units of the logits.
        normalize_gradient: Steps of unit length (default), or as long as the gradient.
        sample_weight: `(batch,)` or None. Weights of the class means.

    Returns:
        `(batch, num_classes)`, the perturbed logits.

    Example:

    >>> perturbed = keras_lpl.functional.perturb_logits(
    ...     labels=[0], logits=[[0.0, 0.0]], direction=[1.0, 1.0], num_steps=[2, 2], step_size=0.5
    ... )
    >>> print(keras.ops.convert_to_numpy(perturbed).round(3))
    [[-0.707  0.707]]
    """
    labels, logits = _standardize(labels, logits)
    # Cut before the loop, not only after it: the loop's length depends on the batch, and
    # frameworks refuse to differentiate such a loop even where nobody asks them to.
    fixed = ops.stop_gradient(logits)
    is_finite = finite_rows(fixed)
    weight = _effective_weight(labels, is_finite, sample_weight, fixed.dtype)
    # Such samples have no part in any mean, but NaN times 0 is still NaN.
    fixed = ops.where(is_finite[:, None], fixed, 0.0)
    direction = _to_float(direction, fixed.dtype)
    num_steps = ops.cast(ops.convert_to_tensor(num_steps), "int32")
    find_shift = shift_of_soft_labels if len(labels.shape) == 2 else shift_of_classes
    arguments = (direction, num_steps, step_size, normalize_gradient, weight)
    shift = find_shift(labels, fixed, *arguments)
    return logits + ops.stop_gradient(shift)


# --- Helpers --------------------------------------------------------------------------------


def _to_float(x, dtype="float32"):
    return ops.cast(ops.convert_to_tensor(x), dtype)


def _standardize(labels, logits):
    """Labels as int32 `(batch,)` or floating `(batch, num_classes)`; logits at least float32."""
    logits = ops.convert_to_tensor(logits)
    if keras.backend.standardize_dtype(logits.dtype) != "float64":
        logits = ops.cast(logits, "float32")
    labels = ops.convert_to_tensor(labels)
    classes = checks.num_classes(logits)
    if checks.is_soft(labels, classes):
        return ops.cast(labels, logits.dtype), logits
    return checks.class_indices(ops.reshape(labels, (-1,)), classes), logits


def _effective_weight(labels, is_finite, sample_weight, dtype):
    """`(batch,)`: the sample weight, 0 for samples without a class or without finite logits."""
    usable = is_finite
    if len(labels.shape) == 1:
        usable = ops.logical_and(usable, labels >= 0)
    usable = ops.cast(usable, dtype)
    if sample_weight is None:
        return usable
    sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
    return usable * ops.cast(sample_weight, dtype)


def _confidence_threshold(confidence, threshold, weight):
    if not isinstance(threshold, str):
        return threshold
    checks.one_of(threshold, "threshold", ["mean"])
    if weight is None:
        return ops.mean(confidence)
    seen = ops.cast(ops.convert_to_tensor(weight) > 0, confidence.dtype)
    return divide_or_zero(ops.sum(confidence * seen), ops.sum(seen))
