"""How much each loss raises or lowers the loss of each class, early in training."""

import numpy as np

import keras_lpl
from examples.colors import COLORS
from examples.gallery.training import digits, new_figure, train

METHODS = ("logit adjustment", "LPLLoss(counts)")
LOOKS = (5, 50)  # epochs after which the classes are looked at


def draw(seeds, epochs):
    """The relative loss variation by class, the most frequent one first."""
    epochs = min(epochs, LOOKS[-1])
    looks = sorted({min(look, epochs) for look in LOOKS})
    figure = new_figure(8.5, 3.4)
    axes = np.atleast_1d(figure.subplots(1, len(looks), sharey=True))
    counts = keras_lpl.data.class_counts(digits(0)[0][1])
    order = np.argsort(-counts, kind="stable")
    for index, method in enumerate(METHODS):
        history = [_variations(method, seed, epochs, looks) for seed in range(seeds)]
        means, spreads = np.mean(history, axis=0), np.std(history, axis=0)
        for ax, mean, spread, look in zip(axes, means, spreads, looks, strict=True):
            ax.bar(
                np.arange(len(counts)) + 0.4 * (index - 0.5),
                mean[order],
                0.38,
                yerr=spread[order],
                color=COLORS[method],
                ecolor="#333333",
                error_kw={"elinewidth": 0.8},
                label=method,
            )
            ax.set_title(f"after {look} epochs", loc="left", fontsize=10)
    for ax in axes:
        ax.axhline(0, color="#333333", linewidth=0.8)
        ax.set_yscale("symlog", linthresh=1)
        ax.set_xticks(np.arange(len(counts)), [str(n) for n in counts[order]], fontsize=8)
        ax.set_xlabel("training samples of the class", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    axes[0].set_ylabel("relative loss variation  (l′ − l) / l", fontsize=9)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _variations(method, seed, epochs, looks):
    """`(looks, classes)`."""
    x, y = digits(seed)[0]
    callback = keras_lpl.callbacks.LossVariation(x, y, 128, every=1)
    train(method, x, y, seed, epochs, [callback])
    return [callback.history[look - 1] for look in looks]
