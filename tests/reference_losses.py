"""The losses that bend or weigh cross-entropy, spelled out in float64 from their papers.

One loop per sum, as in `tests.reference`, and no code shared with the library. Labels are integers
of shape (B,) or soft labels of shape (B, C).
"""

import math

import numpy as np

from tests.reference import log_softmax, softmax


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
