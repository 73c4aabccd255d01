"""The paper's equations, spelled out in float64 NumPy.

This is the yardstick for `keras_lpl.functional`, so it is written from the equations of Li, Su, Wu
and Zhang, "Logit Perturbation" (AAAI 2022), one loop per sum, and shares no code with the library.
It is slow on purpose.

Labels are integers of shape (B,), or soft labels of shape (B, C). An integer label is read as the
one-hot row it stands for: `membership[i, c]` says how much of sample i belongs to class c, and each
mean over "the samples of class c" weighs sample i by `sample_weight[i] * membership[i, c]`.
"""

import math

import numpy as np


def _membership(labels, num_classes):
    """(B, C): the soft labels themselves, or the one-hot rows of integer labels."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return labels.astype("float64")
    membership = np.zeros((len(labels), num_classes))
    for i, label in enumerate(labels):
        membership[i, label] = 1.0
    return membership


def _sample_weight(sample_weight, logits):
    """(B,): weights for class means. A sample with a NaN or infinite logit has none."""
    weight = np.ones(len(logits)) if sample_weight is None else np.array(sample_weight, "float64")
    for i, row in enumerate(logits):
        if not np.all(np.isfinite(row)):
            weight[i] = 0.0
    return weight


def softmax(row):
    """Softmax of one sample's logits."""
    exponentials = np.exp(row - np.max(row))
    return exponentials / np.sum(exponentials)


def log_softmax(row):
    """Logarithm of the softmax of one sample's logits."""
    shifted = row - np.max(row)
    return shifted - np.log(np.sum(np.exp(shifted)))


def _softmax_minus_label(row, label):
    """`softmax(row) - label`, for a sample learnt so well that 1 - p rounds to zero too.

    As the probabilities sum to one, p_j - y_j = p_j (1 - y_j) - y_j (sum of the others), where
    nothing cancels.
    """
    p = softmax(row)
    difference = np.zeros(len(p))
    for j in range(len(p)):
        others = np.sum(np.delete(p, j)) if label[j] > 0 else 0.0
        difference[j] = p[j] * (1.0 - label[j]) - label[j] * others
    return difference


def class_confidence(labels, logits, sample_weight=None):
    """Eq. 13: q_c, the mean probability of the true class over the samples of class c.

    Returns q (C,) and the weight seen per class (C,). A class without weight has q = 0.
    """
    logits = np.asarray(logits, "float64")
    num_samples, num_classes = logits.shape
    membership = _membership(labels, num_classes)
    sample_weight = _sample_weight(sample_weight, logits)

    confidence = np.zeros(num_classes)
    weight = np.zeros(num_classes)
    for c in range(num_classes):
        total = 0.0
        for i in range(num_samples):
            w = sample_weight[i] * membership[i, c]
            if w > 0:
                weight[c] += w
                total += w * softmax(logits[i])[c]
        if weight[c] > 0:
            confidence[c] = total / weight[c]
    return confidence, weight


def _confidence_threshold(confidence, threshold, weight):
    """tau of Eq. 12: a number, or "mean", the mean of q over the classes that have been seen."""
    if threshold != "mean":
        return threshold
    seen = [q for c, q in enumerate(confidence) if weight is None or weight[c] > 0]
    return sum(seen) / len(seen)


def split_by_confidence(confidence, threshold="mean", weight=None):
    """Eq. 12: +1 (raise the loss) where tau - q_c >= 0, -1 (lower it) elsewhere."""
    confidence = np.asarray(confidence, "float64")
    tau = _confidence_threshold(confidence, threshold, weight)
    return np.array([1.0 if tau - q >= 0 else -1.0 for q in confidence])


def split_by_frequency(class_counts, threshold):
    """Eq. 14: -1 for the head, the `threshold` most frequent classes, +1 for the tail.

    A threshold below 1 is a share of the classes. Classes of equal count share the middle of the
    ranks they take up together, so they fall on the same side in whatever order they come.
    """
    counts = np.asarray(class_counts, "float64")
    num_head = threshold if threshold >= 1 else threshold * len(counts)
    direction = []
    for count in counts:
        more = sum(1 for other in counts if other > count)
        equal = sum(1 for other in counts if other == count)
        rank = more + equal / 2
        direction.append(-1.0 if rank < num_head else 1.0)
    return np.array(direction)


def bound_by_confidence(confidence, threshold, epsilon, delta_epsilon, weight=None):
    """Eq. 18 when split by confidence: eps_c = eps + d_eps |tau - q_c|."""
    confidence = np.asarray(confidence, "float64")
    tau = _confidence_threshold(confidence, threshold, weight)
    return np.array([epsilon + delta_epsilon * abs(tau - q) for q in confidence])


def bound_by_frequency(class_counts, threshold, epsilon, delta_epsilon, head_scale=1.0):
    """Eq. 18 when split by frequency: eps_c = eps + d_eps r_c.

    r_c is N_c / N_max in the head, there times `head_scale`, and N_min / N_c in the tail.
    """
    counts = np.asarray(class_counts, "float64")
    bound = []
    for count, direction in zip(counts, split_by_frequency(counts, threshold), strict=True):
        if direction < 0:
            bound.append(epsilon + head_scale * delta_epsilon * count / max(counts))
        else:
            bound.append(epsilon + delta_epsilon * min(counts) / count)
    return np.array(bound)


def split_and_bound_by_log_frequency(class_counts, delta_epsilon=1.0, head_scale=1.0):
    """s_c and eps_c: down above the geometric mean of the counts, by the distance of the logs."""
    logs = [math.log(count) for count in class_counts]
    mean = sum(logs) / len(logs)
    direction = np.array([-1.0 if log > mean else 1.0 for log in logs])
    scale = np.where(direction < 0, head_scale, 1.0)
    return direction, delta_epsilon * scale * np.array([abs(log - mean) for log in logs])


def num_steps(bound, step_size):
    """Eq. 19: K_c = floor(eps_c / alpha). Floats make 0.3 / 0.1 less than 3; it is 3."""
    return np.array([math.floor(b / step_size * (1 + 1e-6)) for b in np.asarray(bound, "float64")])


def perturb_logits(
    labels, logits, direction, num_steps, step_size, normalize_gradient=True, sample_weight=None
):
    """Algorithm 2 with Eqs. 16-17: K_c steps of class c up (+1) or down (-1) its own mean loss.

    Each step adds s_c alpha g_c to delta_c, where g_c is the gradient of the class's mean loss,
    first brought to length one with `normalize_gradient`. All classes step at the same time. Sample
    i is shifted by sum_c membership[i, c] delta_c. A row with a NaN or infinite logit comes back as
    NaN.
    """
    logits = np.asarray(logits, "float64")
    num_samples, num_classes = logits.shape
    membership = _membership(labels, num_classes)
    sample_weight = _sample_weight(sample_weight, logits)

    def shifted(delta):
        rows = np.zeros_like(logits)
        for i in range(num_samples):
            shift = np.zeros(num_classes)
            for c in range(num_classes):
                if membership[i, c] > 0:
                    shift += membership[i, c] * delta[c]
            rows[i] = logits[i] + shift
            if not np.all(np.isfinite(logits[i])):
                rows[i] = np.nan
        return rows

    length_of_step = np.broadcast_to(step_size, num_classes)  # one for all classes, or one each
    delta = {c: np.zeros(num_classes) for c in range(num_classes)}
    for k in range(int(max(num_steps))):
        rows = shifted(delta)
        residuals = [
            _softmax_minus_label(rows[i], membership[i]) if sample_weight[i] > 0 else None
            for i in range(num_samples)
        ]
        for c in range(num_classes):
            if k >= num_steps[c]:
                continue
            total = np.zeros(num_classes)
            weight = 0.0
            for i in range(num_samples):
                w = sample_weight[i] * membership[i, c]
                if w > 0:
                    total += w * residuals[i]
                    weight += w
            if weight == 0:
                continue
            gradient = total / weight
            if normalize_gradient:
                length = np.sqrt(np.sum(gradient**2))
                if length == 0:
                    continue
                gradient = gradient / length
            delta[c] = delta[c] + direction[c] * length_of_step[c] * gradient
    return shifted(delta)


def softmax_crossentropy(labels, logits):
    """Per-sample cross-entropy -sum_c y_ic log softmax(u_i)_c."""
    logits = np.asarray(logits, "float64")
    membership = _membership(labels, logits.shape[1])
    rows = zip(membership, logits, strict=True)
    return np.array([-np.dot(y, log_softmax(row)) for y, row in rows])


def softmax_crossentropy_gradient(labels, logits, sample_weight=None):
    """Gradient of mean_i w_i loss_i with respect to the logits: w_i (softmax(u_i) - y_i) / B."""
    logits = np.asarray(logits, "float64")
    membership = _membership(labels, logits.shape[1])
    weight = np.ones(len(logits)) if sample_weight is None else np.asarray(sample_weight, "float64")
    gradient = np.zeros_like(logits)
    for i, row in enumerate(logits):
        gradient[i] = weight[i] * _softmax_minus_label(row, membership[i]) / len(logits)
    return gradient


def lpl_loss(
    labels, logits, direction, num_steps, step_size, normalize_gradient=True, sample_weight=None
):
    """Eq. 10, per sample: cross-entropy of u_i + delta_{y_i}. Weights enter class means only."""
    perturbed = perturb_logits(
        labels, logits, direction, num_steps, step_size, normalize_gradient, sample_weight
    )
    return softmax_crossentropy(labels, perturbed)


def lpl_gradient(
    labels, logits, direction, num_steps, step_size, normalize_gradient=True, sample_weight=None
):
    """Gradient of mean_i w_i lpl_loss_i in the logits; delta is a constant (Algorithm 2)."""
    perturbed = perturb_logits(
        labels, logits, direction, num_steps, step_size, normalize_gradient, sample_weight
    )
    return softmax_crossentropy_gradient(labels, perturbed, sample_weight)


def logit_adjustment_loss(labels, logits, class_counts, tau=1.0):
    """Per-sample cross-entropy of u + tau log pi, pi the class priors (Menon et al., 2021)."""
    counts = np.asarray(class_counts, "float64")
    adjusted = np.array(np.asarray(logits, "float64"))
    for c in range(len(counts)):
        adjusted[:, c] += tau * math.log(counts[c] / sum(counts))
    return softmax_crossentropy(labels, adjusted)


def finite_difference_gradient(fn, x, step=1e-5):
    """Central differences of the scalar function `fn` at `x`, one entry at a time."""
    x = np.array(x, "float64")
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (fn(ahead) - fn(behind)) / (2 * step)
    return gradient
