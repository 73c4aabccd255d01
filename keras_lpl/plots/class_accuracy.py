"""Accuracy per class, with the number of training samples behind it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lpl.core.typing import Counts
from keras_lpl.plots import _series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def class_accuracy(
    accuracies: Mapping[str, Any],
    class_counts: Counts | None = None,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure | SubFigure":
    """Draws the accuracy of each class for one method or several.

    Args:
        accuracies: Dictionary from a method's name to its accuracies, fractions between 0 and 1,
            shape `(num_classes,)`, or `(runs, num_classes)`: then the mean over runs is drawn,
            with whiskers (a band where there are many classes) of one standard deviation. Of
            several labels `(labels, 2)`, with counts of that shape, or `(runs, labels, 2)`: the
            negatives and positives of each label are drawn as classes.
        class_counts: Training samples per class. Given, classes are drawn most frequent first,
            over grey steps that show the counts on a logarithmic axis of their own.
        class_names: Names of the classes, or of the labels, in the order of their indices.
        title: Title of the picture.
        ax: Matplotlib axes to draw in. None makes a new figure.

    Returns:
        The `matplotlib.figure.Figure`, or the subfigure that `ax` belongs to.

    Example:

    >>> figure = keras_lpl.plots.class_accuracy({"LPL": [0.99, 0.95, 0.8]}, [90, 30, 3])
    >>> figure.savefig("accuracy.png")  # doctest: +SKIP
    """
    series = _series.prepare(accuracies, class_counts, class_names, "accuracies")
    for name, values in series.values.items():
        known = values[np.isfinite(values)]
        if np.any((known < 0) | (known > 1)):
            raise ValueError(
                "`accuracies` must be fractions between 0 and 1; divide percentages by 100. "
                f"Received: {name!r} from {known.min():g} to {known.max():g}"
            )
    own_figure = ax is None
    if ax is None:
        ax = _series.new_axes(series.num_classes)
    from matplotlib.ticker import PercentFormatter

    _series.draw(ax, series, title or "Accuracy by class")
    if series.counts is not None:
        _draw_counts(ax, series)
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    ax.set_ylabel("accuracy")
    _series.draw_legend(ax, series, own_figure)
    return ax.figure


def _draw_counts(ax, series):
    """Grey steps on an axis of their own, behind the accuracies."""
    behind = ax.twinx()
    behind.bar(np.arange(series.num_classes), series.counts, 1.0, color="#e6e6e6")
    behind.set_yscale("log")
    behind.set_ylim(min(1, series.counts.min() / 2), series.counts.max() * 1.2)
    behind.set_ylabel("training samples", color="#777777")
    behind.tick_params(axis="y", which="both", colors="#777777")
    behind.spines["top"].set_visible(False)
    behind.set_zorder(ax.get_zorder() - 1)
    behind.patch.set_visible(False)
    ax.patch.set_visible(False)
