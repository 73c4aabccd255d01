"""Relative loss variation per class: what a perturbation does, and to whom.

    (l' - l) / l,   l the cross-entropy of the logits, l' that of the perturbed logits

Above zero a class is augmented positively (the model must push it further), below zero
negatively. Figures 1 and 5 of Li et al., "Logit Perturbation", AAAI 2022.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts
from keras_lpl.plots import _series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def loss_variation(
    variations: Mapping[str, Any],
    class_counts: Counts | None = None,
    class_names: Sequence[str] | None = None,
    *,
    yscale: str = "auto",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure | SubFigure":
    """Draws the relative loss variation of each class for one method or several.

    Args:
        variations: Dictionary from a method's name to its variations, shape `(num_classes,)`, or
            `(epochs, num_classes)`: then the mean over epochs is drawn, with whiskers (a band
            where there are many classes) of one standard deviation. Of several labels
            `(labels, 2)`, with counts of that shape, or `(epochs, labels, 2)`: the negatives and
            positives of each label are drawn as classes. Values that are not finite are left out.
        class_counts: Training samples per class. Given, classes are drawn most frequent first.
        class_names: Names of the classes, or of the labels, in the order of their indices.
        yscale: `"linear"`; `"symlog"`, linear between -1 and 1 and logarithmic beyond; or
            `"auto"`: symlog if a variation is above 10, so that one rare class cannot flatten
            all the others.
        title: Title of the picture.
        ax: Matplotlib axes to draw in. None makes a new figure.

    Returns:
        The `matplotlib.figure.Figure`, or the subfigure that `ax` belongs to.

    Example:

    >>> figure = keras_lpl.plots.loss_variation({"LPL": [-0.1, 0.0, 0.4]}, [90, 30, 3])
    >>> figure.savefig("variation.png")  # doctest: +SKIP
    """
    checks.one_of(yscale, "yscale", ("auto", "linear", "symlog"))
    series = _series.prepare(variations, class_counts, class_names, "variations")
    own_figure = ax is None
    if ax is None:
        ax = _series.new_axes(series.num_classes)
    _series.draw(ax, series, title or "How each class's loss is changed")
    _scale(ax, np.concatenate([[0.0], *series.values.values()]), yscale)
    ax.axhline(0, color="#333333", linewidth=0.8, zorder=2.5)
    ax.set_ylabel("relative loss variation  (l′ − l) / l")
    _series.draw_legend(ax, series, own_figure)
    return ax.figure


def _scale(ax, values, yscale):
    low, high = np.nanmin(values), np.nanmax(values)
    if yscale == "symlog" or (yscale == "auto" and max(-low, high) > 10):
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(min(-1, 2 * low), max(1, 2 * high))
        ax.yaxis.set_major_formatter("{x:g}")
