"""The perturbations other than LPL, spelled out in float64 NumPy from their own papers.

As `tests.reference`: one loop per sum, no code shared with the library, slow on purpose.
"""

import math

import numpy as np

from tests import reference


def _rows(labels):
    """For each sample a list of (class, share): one class, or all of a soft label's."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return [[(c, share) for c, share in enumerate(row) if share > 0] for row in labels]
    return [[(int(label), 1.0)] for label in labels]


def vector_scaling(labels, logits, class_counts, gamma, tau):
    """Kini et al. 2021, Eq. 2: `Delta_c u_c + iota_c`."""
    changed = np.array(logits, "float64")
    for c, count in enumerate(class_counts):
        changed[:, c] *= (count / max(class_counts)) ** gamma
        changed[:, c] += tau * math.log(count / sum(class_counts))
    return changed


def ldam(labels, logits, class_counts, max_margin, scale):
    """Cao et al. 2019, Eqs. 12-13: margins `C / N_c^(1/4)`, C such that the largest is given."""
    changed = np.array(logits, "float64")
    largest = max(count**-0.25 for count in class_counts)
    for i, classes in enumerate(_rows(labels)):
        for c, share in classes:
            changed[i, c] -= share * max_margin * class_counts[c] ** -0.25 / largest
    return scale * changed


def ala(labels, logits, class_counts, scale, constant_at=None):
    """Zhao et al. 2022: a margin of quantity times difficulty, which is a constant."""
    changed = np.array(logits, "float64")
    constant = np.array(logits if constant_at is None else constant_at, "float64")
    for i, classes in enumerate(_rows(labels)):
        for c, share in classes:
            quantity = math.log(2) / math.log(class_counts[c] / min(class_counts) + 1)
            difficulty = (1 - constant[i, c]) / 2
            changed[i, c] -= share * quantity * difficulty
    return scale * changed


def gcl(labels, logits, class_counts, drawn, noise, margin, scale):
    """Li et al. 2022: the absolute noise `drawn`, (B, C), times the size of each class's cloud."""
    changed = np.array(logits, "float64")
    logs = [math.log(count) for count in class_counts]
    for i, classes in enumerate(_rows(labels)):
        for c, log in enumerate(logs):
            changed[i, c] -= noise * drawn[i, c] * (max(logs) - log) / (max(logs) - min(logs))
        for c, share in classes:
            changed[i, c] -= share * margin
    return scale * changed


def seesaw(labels, logits, class_counts, p, q, constant_at=None):
    """Wang et al. 2021, Eqs. 4-7, as logits: the factors `M_ij C_ij` as added logarithms.

    A soft label's own count and probability are geometric means over its classes, and what it is
    moved by in a class shrinks with its share of it.
    """
    changed = np.array(logits, "float64")
    constant = np.array(logits if constant_at is None else constant_at, "float64")
    for i, classes in enumerate(_rows(labels)):
        sigma = reference.softmax(constant[i])
        own_count = math.exp(sum(share * math.log(class_counts[c]) for c, share in classes))
        own_sigma = math.exp(sum(share * math.log(sigma[c]) for c, share in classes))
        for j in range(changed.shape[1]):
            others = 1 - dict(classes).get(j, 0.0)
            mitigation = min(1.0, class_counts[j] / own_count) ** p
            compensation = max(1.0, sigma[j] / own_sigma) ** q
            changed[i, j] += others * (math.log(mitigation) + math.log(compensation))
    return changed


def isda(labels, logits, kernel, covariance, strength):
    """Wang et al. 2019, Eq. 7: `u_c + strength / 2 (w_c - w_y)' Sigma_y (w_c - w_y)`.

    `covariance` is (C, A, A), or (C, A) for diagonal ones. A soft label takes the mean over its
    classes.
    """
    changed = np.array(logits, "float64")
    kernel = np.asarray(kernel, "float64")
    for i, classes in enumerate(_rows(labels)):
        for y, share in classes:
            sigma = np.asarray(covariance[y], "float64")
            sigma = np.diag(sigma) if sigma.ndim == 1 else sigma
            for c in range(changed.shape[1]):
                difference = kernel[:, c] - kernel[:, y]
                changed[i, c] += share * strength / 2 * (difference @ sigma @ difference)
    return changed


def large_margin(labels, logits, features, kernel, margin, annealing):
    """Liu et al. 2016, Eqs. 4-6, and the annealing of section 5.1: only the true class's logit.

    A bias stays as it is.
    """
    changed = np.array(logits, "float64")
    for i, classes in enumerate(_rows(labels)):
        for y, share in classes:
            x, w = np.asarray(features[i], "float64"), np.asarray(kernel[:, y], "float64")
            length = np.linalg.norm(x) * np.linalg.norm(w)
            theta = math.acos(max(-1.0, min(1.0, x @ w / length)))
            k = min(int(theta // (math.pi / margin)), margin - 1)
            psi = (-1) ** k * math.cos(margin * theta) - 2 * k
            plain = length * math.cos(theta)
            lowered = (annealing * plain + length * psi) / (1 + annealing)
            changed[i, y] += share * (lowered - plain)
    return changed


def center_loss(labels, logits, features, centers, strength):
    """Wen et al. 2016, Eq. 5, per sample."""
    losses = reference.softmax_crossentropy(labels, logits)
    for i, classes in enumerate(_rows(labels)):
        for c, share in classes:
            difference = np.asarray(features[i], "float64") - centers[c]
            losses[i] += share * strength / 2 * (difference @ difference)
    return losses


def adversarial(labels, logits, kernel, epsilon, num_steps, norm, at=None):
    """Eq. 1 of LPL for features of which the logits are linear: projected gradient ascent."""
    changed = np.array(logits, "float64")
    start = np.array(logits if at is None else at, "float64")
    kernel = np.asarray(kernel, "float64")
    length = epsilon if num_steps == 1 else 2.5 * epsilon / num_steps
    for i, classes in enumerate(_rows(labels)):
        delta = np.zeros(len(kernel))
        for _ in range(num_steps):
            u = start[i] + delta @ kernel
            gradient = np.exp(u - u.max()) / np.exp(u - u.max()).sum()
            for c, share in classes:
                gradient[c] -= share
            gradient = kernel @ gradient
            if norm == "linf":
                delta = np.clip(delta + length * np.sign(gradient), -epsilon, epsilon)
            else:
                delta = delta + length * gradient / math.sqrt((gradient**2).sum())
                delta *= min(1, epsilon / math.sqrt((delta**2).sum()))
        changed[i] += delta @ kernel
    return changed
