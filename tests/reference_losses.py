"""The losses that bend or weigh cross-entropy, spelled out in float64 from their papers.

One loop per sum, as in `tests.reference`, and no code shared with the library. Labels are integers
of shape (B,) or soft labels of shape (B, C).
"""

import math

import numpy as np

from tests.reference import log_softmax, softmax, softmax_crossentropy


def _rows(labels, logits):
    """Pairs of a label as {class: share}, shares of zero left out, and a row of logits."""
    for label, row in zip(np.asarray(labels), np.asarray(logits, "float64"), strict=True):
        if np.ndim(label) == 0:
            yield {int(label): 1.0}, row
        else:
            yield {c: float(share) for c, share in enumerate(label) if share > 0}, row


def focal(labels, logits, gamma):
    """Lin et al. 2017, Eq. 4, on the softmax: -(1 - p_t)^gamma log p_t."""
    losses = []
    for label, row in _rows(labels, logits):
        p, log_p = softmax(row), log_softmax(row)
        loss = 0.0
        for c, share in label.items():
            rest = sum(p[k] for k in range(len(p)) if k != c)
            loss -= share * rest**gamma * log_p[c]
        losses.append(loss)
    return np.array(losses)


def sigmoid_focal(labels, logits, gamma):
    """Cui et al. 2019, unweighted: focal binary cross-entropies, summed over the classes."""
    losses = []
    for label, row in _rows(labels, logits):
        loss = 0.0
        for c, u in enumerate(row):
            for z, share in ((u, label.get(c, 0.0)), (-u, 1 - label.get(c, 0.0))):
                p, rest = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))
                loss -= share * rest**gamma * math.log(p)
        losses.append(loss)
    return np.array(losses)


def class_balanced_weight(labels, logits, class_counts, beta):
    """Cui et al. 2019, per sample: 1 / E_n, scaled so that the classes' sum to C."""
    inverse = []
    for count in class_counts:
        effective = sum(beta**n for n in range(int(count)))  # (1 - beta^N) / (1 - beta)
        inverse.append(1 / effective)
    weights = [len(inverse) * v / sum(inverse) for v in inverse]
    result = []
    for label, _ in _rows(labels, logits):
        result.append(sum(share * weights[c] for c, share in label.items()))
    return np.array(result)


def generalized_cross_entropy(labels, logits, q, truncate=0.0):
    """Zhang & Sabuncu 2018: L_q(p), or the constant L_q(k) where p <= k."""
    losses = []
    for label, row in _rows(labels, logits):
        p = softmax(row)
        loss = 0.0
        for c, share in label.items():
            base = p[c] if p[c] > truncate else truncate
            loss += share * (1 - base**q) / q
        losses.append(loss)
    return np.array(losses)


def bootstrapping(labels, logits, beta, hard):
    """Reed et al. 2015: cross-entropy to a mixture of label and prediction."""
    losses = []
    for label, row in _rows(labels, logits):
        p, log_p = softmax(row), log_softmax(row)
        best = max(range(len(p)), key=lambda c: p[c])
        loss = 0.0
        for c in range(len(p)):
            own = (1.0 if c == best else 0.0) if hard else p[c]
            loss -= (beta * label.get(c, 0.0) + (1 - beta) * own) * log_p[c]
        losses.append(loss)
    return np.array(losses)


def forward_corrected(labels, logits, transition):
    """Patrini et al. 2017, Theorem 2: cross-entropy of the prediction after noise."""
    losses = []
    for label, row in _rows(labels, logits):
        p = softmax(row)
        loss = 0.0
        for c, share in label.items():
            noisy = sum(p[true] * transition[true][c] for true in range(len(p)))
            loss -= share * math.log(noisy)
        losses.append(loss)
    return np.array(losses)


def backward_corrected(labels, logits, transition):
    """Patrini et al. 2017, Theorem 1: T^-1 times the vector of losses, one per label."""
    losses = []
    for label, row in _rows(labels, logits):
        corrected = np.linalg.solve(np.asarray(transition, "float64"), -log_softmax(row))
        losses.append(sum(share * corrected[c] for c, share in label.items()))
    return np.array(losses)


def lade(labels, logits, class_counts, strength, penalty, sample_weight=None):
    """Hong et al. 2021, as the authors' code: the same regulariser is added to every sample."""
    logits = np.asarray(logits, "float64")
    weight = np.ones(len(logits)) if sample_weight is None else np.asarray(sample_weight, "float64")
    num_classes, total = len(class_counts), sum(class_counts)
    rows = [label for label, _ in _rows(labels, logits)]
    regularizer = 0.0
    for c, count in enumerate(class_counts):
        of_class = [w * label.get(c, 0.0) for label, w in zip(rows, weight, strict=True)]
        first = 0.0
        if sum(of_class) > 0:
            first = sum(w * u for w, u in zip(of_class, logits[:, c], strict=True)) / sum(of_class)
        shifted = logits[:, c] - math.log(count / total) + math.log(1 / num_classes)
        second = math.log(sum(weight * np.exp(shifted)) / sum(weight))
        regularizer -= count / total * (first - second - penalty * second**2)
    adjusted = logits + np.log(np.asarray(class_counts) / total)
    return softmax_crossentropy(labels, adjusted) + strength * regularizer


def average_top_k(labels, logits, share, sample_weight=None):
    """Fan et al. 2017: the largest losses, down to `share` of the total weight."""
    losses = softmax_crossentropy(labels, logits)
    weight = np.ones(len(losses)) if sample_weight is None else np.asarray(sample_weight, "float64")
    left = share * sum(weight)
    result = np.zeros(len(losses))
    for i in sorted(range(len(losses)), key=lambda i: -losses[i]):
        taken = min(left, weight[i])
        result[i] = losses[i] * taken / weight[i] / share
        left -= taken
    return result


def yes_or_no(labels, logits):
    """(B, C): how much "yes" is the label of the question "is it class c?"."""
    yes = np.zeros(np.shape(logits))
    for i, (label, _) in enumerate(_rows(labels, logits)):
        for c, share in label.items():
            yes[i, c] = share
    return yes


def asymmetric(yes, logits, gamma_negative, gamma_positive, margin):
    """Ridnik et al. 2021, of each question: (B, L)."""
    losses = np.zeros(np.shape(yes))
    for at, u in np.ndenumerate(np.asarray(logits, "float64")):
        p, rest = 1 / (1 + math.exp(-u)), 1 / (1 + math.exp(u))
        shifted = max(p - margin, 0.0)
        positive = rest**gamma_positive * math.log(p)
        negative = shifted**gamma_negative * math.log(min(rest + margin, 1.0))
        losses[at] = -yes[at] * positive - (1 - yes[at]) * negative
    return losses


def distribution_balanced(
    yes, logits, positives, total, alpha, beta, mu, negative_scale, bias_scale, gamma=0.0
):
    """Wu et al. 2020, of each question: (B, L).

    `positives` counts those of each label, out of `total` samples.
    """
    losses = np.zeros(np.shape(yes))
    for i, row in enumerate(np.asarray(logits, "float64")):
        repeated = sum(y / n for y, n in zip(yes[i], positives, strict=True))
        for c, u in enumerate(row):
            weight = alpha + 1
            if repeated > 0:
                r = 1 / positives[c] / repeated
                weight = alpha + 1 / (1 + math.exp(-beta * (r - mu)))
            b = math.log(total / positives[c] - 1)
            z = u - bias_scale * b
            p, p_no = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(negative_scale * z))
            positive = -((1 - p) ** gamma) * math.log(p)
            negative = -((1 - p_no) ** gamma) * math.log(p_no) / negative_scale
            losses[i, c] = weight * (yes[i][c] * positive + (1 - yes[i][c]) * negative)
    return losses


def self_corrected(labels, logits, trust, constant_at=None):
    """Wang et al. 2021: the label, corrected by a constant prediction."""
    constant = np.asarray(logits if constant_at is None else constant_at, "float64")
    losses = []
    for (label, row), at in zip(_rows(labels, logits), constant, strict=True):
        p, log_p = softmax(at), log_softmax(row)
        entropy = -sum(q * math.log(q) for q in p if q > 0)
        epsilon = trust * (1 - entropy / math.log(len(p)))
        loss = 0.0
        for c in range(len(p)):
            loss -= ((1 - epsilon) * label.get(c, 0.0) + epsilon * p[c]) * log_p[c]
        losses.append(loss)
    return np.array(losses)


def over_smoothed(labels, logits, smoothing):
    """Sun et al. 2025: cross-entropy to labels that are all but uniform."""
    losses = []
    for label, row in _rows(labels, logits):
        log_p, loss = log_softmax(row), 0.0
        for c in range(len(row)):
            loss -= ((1 - smoothing) * label.get(c, 0.0) + smoothing / len(row)) * log_p[c]
        losses.append(loss)
    return np.array(losses)
