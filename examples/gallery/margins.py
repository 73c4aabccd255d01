"""By how much the true class leads on test samples, for frequent and for rare classes."""

import numpy as np

from examples.colors import COLORS
from examples.gallery.training import digits, new_figure, trained_on_digits

METHODS = ("cross-entropy", "logit adjustment", "LPLLoss(counts)")
PARTS = ("four most frequent digits", "three in the middle", "three rarest")


def draw(seeds, epochs):
    """A row for each method, a panel for each part of the classes: margins of the test samples."""
    figure = new_figure(9, 3.2)
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for row, method in enumerate(METHODS):
        margins = [_margins(method, seed, epochs) for seed in range(seeds)]
        for part, ax in enumerate(axes):
            values = np.concatenate([of_seed[part] for of_seed in margins])
            height = -row
            shape = ax.violinplot(
                values, [height], orientation="horizontal", widths=0.8, showextrema=False
            )
            shape["bodies"][0].set(facecolor=COLORS[method], alpha=0.45)
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            ax.plot([low, high], [height, height], color=COLORS[method], linewidth=4)
            ax.plot(middle, height, "o", color="white", markeredgecolor=COLORS[method], zorder=3)
            ax.annotate(
                f"{(values < 0).mean():.0%} wrong",
                (0.02, height + 0.3),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                color=COLORS[method],
            )
    for title, ax in zip(PARTS, axes, strict=True):
        ax.axvline(0, color="#333333", linewidth=0.8)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("margin, in units of the logits", fontsize=9)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks([-row for row in range(len(METHODS))], METHODS)
    return figure


def _margins(method, seed, epochs):
    """Margins of the test samples: of frequent, middle and rare classes."""
    x, y = digits(seed)[1]
    logits = trained_on_digits(method, seed, epochs).predict(x, verbose=0)
    own = logits[np.arange(len(y)), y]
    others = np.where(np.arange(logits.shape[1]) == y[:, None], -np.inf, logits)
    margin = own - others.max(axis=1)
    return [margin[y < 4], margin[(y >= 4) & (y < 7)], margin[y >= 7]]
