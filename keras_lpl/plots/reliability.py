"""Reliability diagram: how often a model is right, by how sure it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.plots import _predictions, _series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def reliability(
    y_true: Any,
    predictions: Mapping[str, Any],
    *,
    from_logits: bool = True,
    num_bins: int = 15,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure | SubFigure":
    """Draws accuracy against confidence, for one method or several.

    Points on the diagonal are calibrated; below it, the model is too sure of itself. Circles are as
    large as the share of the samples in their bin. The legend has the expected calibration error
    (`keras_lpl.metrics.ExpectedCalibrationError`, which has the same bins).

    Args:
        y_true: Class indices `(samples,)`, or one-hot labels `(samples, classes)`.
        predictions: Dictionary from a method's name to its logits, `(samples, classes)`.
        from_logits: False if the predictions are probabilities.
        num_bins: Number of bins of the confidence, from 0 to 1.
        title: Title of the picture.
        ax: Matplotlib axes to draw in. None makes a new figure.

    Returns:
        The `matplotlib.figure.Figure`, or the subfigure that `ax` belongs to.

    Raises:
        ValueError: if labels and predictions do not fit each other.

    Example:

    >>> logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    >>> figure = keras_lpl.plots.reliability([0, 1, 1], {"LPL": logits})
    >>> figure.savefig("reliability.png")  # doctest: +SKIP
    """
    if not hasattr(predictions, "items") or not len(predictions):
        raise ValueError(
            "`predictions` must be a dictionary from a method's name to its logits. "
            f"Received: {type(predictions).__name__}"
        )
    num_bins = checks.integer(num_bins, "num_bins", minimum=1)
    if ax is None:
        ax = _series.axes_of_size((5.5, 5.5))
    place_of = _series.places(list(predictions))
    ax.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", zorder=1)
    for name, given in predictions.items():
        confidence, hit = _confidence_and_hit(y_true, given, from_logits, name)
        weight, mean, accuracy = _bins(confidence, hit, num_bins)
        error = np.sum(weight * np.abs(mean - accuracy))
        color = _series.COLORS[place_of[name] % len(_series.COLORS)]
        label = f"{name} (ECE {error:.3f})"
        ax.plot(mean, accuracy, color=color, linewidth=1.2, label=label, zorder=2)
        ax.scatter(
            mean, accuracy, s=15 + 250 * weight, color=color, alpha=0.6, zorder=3, clip_on=False
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    ax.set_xlabel("confidence: the largest probability")
    ax.set_ylabel("accuracy")
    ax.set_title(title or "Reliability", loc="left")
    ax.grid(color="#dddddd", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="best", frameon=False)
    return ax.figure


def _confidence_and_hit(y_true, given, from_logits, name):
    given = np.asarray(ops.convert_to_numpy(given), "float64")
    if given.ndim != 2 or given.shape[1] < 2:
        raise ValueError(
            "`predictions` must be of shape (samples, classes), with two classes or more. "
            f"Received: predictions[{name!r}] of shape {given.shape}"
        )
    labels, predicted = _predictions.read(y_true, given)
    if from_logits:
        given = np.exp(given - given.max(axis=1, keepdims=True))
        given /= given.sum(axis=1, keepdims=True)
    return given.max(axis=1), predicted == labels


def _bins(confidence, hit, num_bins):
    """Share of the samples, mean confidence and accuracy of each bin that has any."""
    place = np.clip((confidence * num_bins).astype("int64"), 0, num_bins - 1)
    size = np.bincount(place, minlength=num_bins)
    seen = size > 0
    sums = [np.bincount(place, weights, num_bins)[seen] for weights in (confidence, hit)]
    return size[seen] / size.sum(), sums[0] / size[seen], sums[1] / size[seen]
