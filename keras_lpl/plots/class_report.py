"""Recall and precision of each class of one model, with the number of training samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts
from keras_lpl.plots import _predictions, _series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_CLASSES = 40


def class_report(
    y_true: Any,
    y_pred: Any,
    class_names: Sequence[str] | None = None,
    class_counts: Counts | None = None,
    *,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure | SubFigure":
    """Draws recall and precision of each class, one row a class.

    Of more than 40 classes, the 40 of the lowest F1 score.

    Args:
        y_true: Class indices `(samples,)`, or one-hot labels `(samples, classes)`.
        y_pred: Logits or probabilities `(samples, classes)`, or class indices.
        class_names: Names of the classes, in the order of their indices.
        class_counts: Training samples per class. Given, classes are drawn most frequent first, with
            their counts beside the names.
        title: Title of the picture.
        ax: Matplotlib axes to draw in. None makes a new figure.

    Returns:
        The `matplotlib.figure.Figure`, or the subfigure that `ax` belongs to.

    Raises:
        ValueError: if labels, predictions, names or counts do not fit each other.

    Example:

    >>> figure = keras_lpl.plots.class_report([0, 0, 1], [0, 1, 1], ["cat", "dog"], [90, 10])
    >>> figure.savefig("report.png")  # doctest: +SKIP
    """
    labels, predicted = _predictions.read(y_true, y_pred)
    names = _predictions.names_of(labels, predicted, y_pred, class_names)
    order = _predictions.in_order(class_counts, len(names))
    matrix = _predictions.count(labels, predicted, len(names))
    recall = _share(np.diag(matrix), matrix.sum(axis=1))
    precision = _share(np.diag(matrix), matrix.sum(axis=0))
    shown = f"{title or 'Recall and precision by class'}"
    if len(names) > MOST_CLASSES:
        # F1 = 2 hits / (samples + predictions), lowest first.
        f1 = _share(2 * np.diag(matrix), matrix.sum(axis=1) + matrix.sum(axis=0))
        lowest = np.argsort(np.nan_to_num(f1, nan=2.0), kind="stable")[:MOST_CLASSES]
        order = order[np.isin(order, lowest)]
        shown += f", the {MOST_CLASSES} lowest of {len(names)}"
    if ax is None:
        ax = _series.axes_of_size((7, 1.6 + 0.28 * len(order)))
    height = np.arange(len(order))
    ax.hlines(height, recall[order], precision[order], color="#bbbbbb", linewidth=2, zorder=1)
    for values, name, color, marker, size in (
        (recall, "recall", _series.COLORS[0], "o", 55),
        (precision, "precision", _series.COLORS[1], "D", 18),
    ):
        points = ax.scatter(
            values[order], height, s=size, color=color, marker=marker, label=name, zorder=2
        )
        points.set_clip_on(False)
    counts = (
        None
        if class_counts is None
        else np.asarray(checks.class_counts(class_counts, allow_zero=True))
    )
    texts = [names[c] if counts is None else f"{names[c]}  ({counts[c]:g})" for c in order]
    ax.set_yticks(height, texts, fontsize=8)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(_percent())
    ax.grid(axis="x", color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if counts is not None:
        ax.set_ylabel("class (training samples)")
    ax.set_title(shown, loc="left")
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.35 / (0.28 * len(order) + 0.4)),
        ncols=2,
        frameon=False,
    )
    return ax.figure


def _share(hits, total):
    return np.where(total > 0, hits / np.maximum(total, 1), np.nan)


def _percent():
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1)
