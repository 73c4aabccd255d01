"""Confusion matrix: what each class is taken for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lpl.core.typing import Counts
from keras_lpl.plots import _predictions, _series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_NUMBERS = 15  # up to so many classes, the numbers are written


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    class_names: Sequence[str] | None = None,
    class_counts: Counts | None = None,
    *,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure | SubFigure":
    """Draws the confusion matrix of a model, in percent of the samples of each class.

    Each row adds up to 100: a rare class is as visible as a frequent one, and the diagonal is the
    recall. For many classes the numbers are left out, and some of the names.

    Args:
        y_true: Class indices `(samples,)`, or one-hot labels `(samples, classes)`.
        y_pred: Logits or probabilities `(samples, classes)`, or class indices.
        class_names: Names of the classes, in the order of their indices.
        class_counts: Training samples per class. Given, classes are drawn most frequent first: what
            lies below the diagonal is then rare classes taken for more frequent ones.
        title: Title of the picture.
        ax: Matplotlib axes to draw in. None makes a new figure.

    Returns:
        The `matplotlib.figure.Figure`, or the subfigure that `ax` belongs to.

    Raises:
        ValueError: if labels, predictions, names or counts do not fit each other.

    Example:

    >>> figure = keras_lpl.plots.confusion_matrix([0, 0, 1], [0, 1, 1], ["cat", "dog"])
    >>> figure.savefig("confusion.png")  # doctest: +SKIP
    """
    labels, predicted = _predictions.read(y_true, y_pred)
    names = _predictions.names_of(labels, predicted, y_pred, class_names)
    order = _predictions.in_order(class_counts, len(names))
    counts = _predictions.count(labels, predicted, len(names))[np.ix_(order, order)]
    total = counts.sum(axis=1, keepdims=True)
    percent = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    names = [names[index] for index in order]
    if ax is None:
        side = min(4 + 0.35 * len(names), 11)
        ax = _series.axes_of_size((side + 0.7, side))
    image = ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="% of the class's samples")
    if len(names) <= MOST_NUMBERS:
        _write_numbers(ax, percent)
    step = -(-len(names) // 40)
    ticks = np.arange(0, len(names), step)
    ax.set_xticks(ticks, [names[tick] for tick in ticks], rotation=45, ha="right", fontsize=8)
    ax.set_yticks(ticks, [names[tick] for tick in ticks], fontsize=8)
    ax.set_xlabel("predicted")
    ax.set_ylabel("class" if class_counts is None else "class, most frequent first")
    ax.set_title(title or "Confusion matrix", loc="left")
    return ax.figure


def _write_numbers(ax, percent):
    for (row, column), value in np.ndenumerate(percent):
        if np.isfinite(value) and value >= 0.5:
            color = "white" if value > 55 else "black"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
