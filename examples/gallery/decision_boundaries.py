"""Where each method puts the boundary between two moons, one with fifty times the samples."""

import numpy as np

from examples.colors import COLORS, GRAY
from examples.gallery.training import (
    FREQUENT,
    METHODS,
    RARE,
    moons,
    new_figure,
    probabilities,
    train,
    trained_on_moons,
)

SIDE = 120  # points along each side of the grid that boundaries are drawn from


def draw(seeds, epochs, methods=METHODS, columns=3):
    """A panel for each method: its boundaries over several seeds, and that of balanced data."""
    lines = -(-len(methods) // columns)
    figure = new_figure(3.2 * columns, 2.7 * lines)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    x_test, y_test = moons(2000, 2000, seed=1000)
    across, up = np.meshgrid(np.linspace(-1.7, 2.7, SIDE), np.linspace(-1.25, 1.7, SIDE))
    grid = np.stack([across.ravel(), up.ravel()], axis=1).astype("float32")
    fair = train("cross-entropy", x_test, y_test, seed=0, epochs=max(1, epochs // 8))
    fair = probabilities("cross-entropy", fair, grid)[:, 1].reshape(across.shape)

    for ax, method in zip(axes, methods, strict=False):
        recalls = []
        for seed in range(seeds):
            x, y = moons(FREQUENT, RARE, seed)
            model = trained_on_moons(method, seed, epochs)
            rare = probabilities(method, model, grid)[:, 1].reshape(across.shape)
            found = probabilities(method, model, x_test).argmax(axis=1)
            recalls.append([(found[y_test == c] == c).mean() for c in (0, 1)])
            if seed == 0:
                shade = [(1, 1, 1, 0), (*_rgb(COLORS[method]), 0.28)]
                ax.contourf(across, up, rare, levels=[-0.1, 0.5, 1.1], colors=shade)
                ax.scatter(*x[y == 0].T, s=5, color="#bbbbbb", linewidths=0)
                ax.scatter(*x[y == 1].T, s=26, color="black", marker="^", linewidths=0, zorder=3)
            ax.contour(
                across,
                up,
                rare,
                levels=[0.5],
                colors=COLORS[method],
                linewidths=2 if seed == 0 else 0.7,
            )
        ax.contour(across, up, fair, levels=[0.5], colors=GRAY, linewidths=1.2, linestyles="dashed")
        frequent, rare = np.mean(recalls, axis=0)
        ax.set_title(method, loc="left", fontsize=11, color=COLORS[method], fontweight="bold")
        ax.set_title(f"{rare:.0%} / {frequent:.0%}", loc="right", fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#cccccc")
    figure.supxlabel(
        f"{FREQUENT} samples against {RARE} (triangles). At the right: recall of the rare and of "
        f"the frequent class,\nmean of {seeds} seeds, a line each. "
        "Dashed: a network that was trained on balanced data.",
        fontsize=9,
    )
    return figure


def draw_pair(seeds, epochs):
    """Cross-entropy beside the default of this library."""
    return draw(seeds, epochs, methods=("cross-entropy", "LPLLoss(counts)"), columns=2)


def _rgb(color):
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
