"""How often the networks are right, beside how sure they are."""

import numpy as np

from examples.colors import COLORS, GRAY
from examples.gallery.training import digits, new_figure, probabilities, trained_on_digits

METHODS = ("cross-entropy", "logit adjustment", "LPLLoss(counts)")
BINS = np.linspace(0, 1, 11)


def draw(seeds, epochs):
    """A panel for each method: accuracy by confidence, and how many samples have it."""
    figure = new_figure(9, 3.3)
    axes = figure.subplots(1, len(METHODS), sharex=True, sharey=True)
    middles = (BINS[1:] + BINS[:-1]) / 2
    for ax, method in zip(axes, METHODS, strict=True):
        confidence, is_right = _predictions(method, seeds, epochs)
        of_bin = np.clip(np.digitize(confidence, BINS) - 1, 0, len(middles) - 1)
        number = np.bincount(of_bin, minlength=len(middles))
        right = np.bincount(of_bin, is_right, len(middles)) / np.maximum(number, 1)
        sure = np.bincount(of_bin, confidence, len(middles)) / np.maximum(number, 1)
        error = (number / number.sum() * np.abs(right - sure)).sum()
        ax.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="dashed")
        ax.bar(middles, number / number.sum(), 0.09, color="#dddddd")
        seen = number >= 5
        ax.plot(sure[seen], right[seen], "o-", color=COLORS[method])
        ax.set_title(method, loc="left", fontsize=10, color=COLORS[method], fontweight="bold")
        ax.annotate(f"calibration error {error:.1%}", (0.04, 0.92), fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.set_xlabel("confidence", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy; grey: share of samples", fontsize=9)
    return figure


def _predictions(method, seeds, epochs):
    """Confidence and correctness of all test predictions, over the seeds."""
    confidence, is_right = [], []
    for seed in range(seeds):
        x, y = digits(seed)[1]
        predicted = probabilities(method, trained_on_digits(method, seed, epochs), x)
        confidence.append(predicted.max(axis=1))
        is_right.append(predicted.argmax(axis=1) == y)
    return np.concatenate(confidence), np.concatenate(is_right)
