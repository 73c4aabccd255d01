"""Values per class and method, drawn in order of frequency: shared by all pictures."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people can tell apart, without the yellow that
# disappears on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
# Methods that many pictures show, each with its place in `COLORS`: the same in all of them.
PLACES = {
    "cross-entropy": 6,
    "class weights": 4,
    "logit adjustment": 1,
    "LA": 1,
    "LPL": 2,
    "LA+LPL": 0,
    "LPLLoss(counts)": 0,
    "LPL, one step": 0,
    "focal": 3,
    "LDAM-DRW": 5,
}
FEW_CLASSES = 20  # up to here, every class gets a label
MAX_BARS = 60  # more bars than this are too thin to compare


@dataclasses.dataclass
class Series:
    """The methods' values, classes in the order they are drawn.

    `values[method]` is the mean over rows, `spread[method]` their standard deviation or None.
    """

    values: dict
    spread: dict
    counts: np.ndarray | None
    labels: list

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def as_bars(self) -> bool:
        """True if there is room for a bar per class and method."""
        return self.num_classes * len(self.values) <= MAX_BARS


def new_axes(num_classes: int) -> "Axes":
    """Axes of a new figure that pyplot knows nothing of."""
    return axes_of_size((9 if num_classes > FEW_CLASSES else 7, 4))


def axes_of_size(size: tuple[float, float]) -> "Axes":
    """Axes of a new figure of a size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "`keras_lpl.plots` needs Matplotlib, which is not installed. Install it with "
            "`pip install matplotlib` or `pip install keras-lpl[examples]`."
        ) from error
    return Figure(figsize=size, layout="constrained").subplots()


def places(names: Sequence[str]) -> dict[str, int]:
    """Places of the methods in `COLORS`, and beyond: known ones have their own, others the rest."""
    found: dict[str, int] = {}
    for name in names:
        place = PLACES.get(name)
        if place is not None and place not in found.values():
            found[name] = place
    free = (place for place in itertools.count() if place not in set(found.values()))
    return {name: found[name] if name in found else next(free) for name in names}


def prepare(
    values: Any, class_counts: Counts | None, class_names: Sequence[str] | None, argument: str
) -> Series:
    """Checks the values of every method, and brings the classes into drawing order."""
    if not hasattr(values, "items") or not len(values):
        raise ValueError(
            f"`{argument}` must be a dictionary from a method's name to one value per class. "
            f"Received: {argument}={values!r}"
        )
    counts = None
    if class_counts is not None:
        counts = np.asarray(checks.class_counts(class_counts), dtype="float64")
    arrays = {name: np.asarray(each, dtype="float64") for name, each in values.items()}
    # Of several labels: the negatives and the positives of each are drawn side by side.
    by_label = any(each.ndim == 3 for each in arrays.values())
    by_label = by_label or (counts is not None and counts.ndim == 2)
    rows = {name: _rows(each, f"{argument}[{name!r}]", by_label) for name, each in arrays.items()}
    sizes = {name: each.shape[1] for name, each in rows.items()}
    num_classes = next(iter(sizes.values()))
    if set(sizes.values()) != {num_classes}:
        raise ValueError(
            f"`{argument}` must have the same number of classes for every method. Received: {sizes}"
        )
    if counts is not None:
        counts = counts.reshape(-1)
        _check_length(counts, num_classes, "class_counts", argument)
    if by_label:
        labels = range(num_classes // 2) if class_names is None else class_names
        class_names = [side for name in labels for side in (f"not {name}", f"{name}")]
    if class_names is not None:
        _check_length(class_names, num_classes, "class_names", argument)
    order = np.arange(num_classes)
    if counts is not None:
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
    names: Sequence[Any] = range(num_classes) if class_names is None else class_names
    return Series(
        values={name: _over_rows(np.nanmean, each)[order] for name, each in rows.items()},
        spread={
            name: _over_rows(np.nanstd, each)[order] if len(each) > 1 else None
            for name, each in rows.items()
        },
        counts=counts,
        labels=[str(names[index]) for index in order],
    )


def draw(ax: "Axes", series: Series, title: str) -> None:
    """Draws each method as bars with whiskers or, where there are too many, as a line."""
    place_of = places(list(series.values))
    for index, name in enumerate(series.values):
        if series.as_bars:
            _draw_bars(ax, series, index, name, place_of[name])
        else:
            _draw_line(ax, series, name, place_of[name])
    _label_classes(ax, series)
    ax.set_title(title, loc="left")
    ax.grid(axis="y", color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def draw_legend(ax: "Axes", series: Series, own_figure: bool) -> None:
    """Names the methods: below the picture in a figure of ours, inside the axes in another's."""
    handles, names = ax.get_legend_handles_labels()
    if own_figure:
        # A letter is some 0.09 inches wide, and a key with its gaps as wide as seven.
        width = 0.09 * (7 + max(len(name) for name in names))
        figure: Any = ax.figure
        columns = min(len(names), max(1, int(figure.get_figwidth() / width)))
        ax.figure.legend(handles, names, loc="outside lower center", frameon=False, ncols=columns)
    else:
        ax.legend(handles, names)


def _draw_bars(ax, series, index, name, place):
    width = 0.8 / len(series.values)
    positions = np.arange(series.num_classes) + (index + 0.5) * width - 0.4
    ax.bar(
        positions,
        series.values[name],
        0.92 * width,
        color=COLORS[place % len(COLORS)],
        hatch="///" if place >= len(COLORS) else None,
        edgecolor="white",
        linewidth=0,
        label=name,
        zorder=2,
    )
    if series.spread[name] is not None:
        ax.errorbar(
            positions,
            series.values[name],
            series.spread[name],
            fmt="none",
            ecolor="#333333",
            elinewidth=0.9,
            zorder=3,
        )


def _draw_line(ax, series, name, place):
    positions, values = np.arange(series.num_classes), series.values[name]
    color = COLORS[place % len(COLORS)]
    ax.plot(
        positions,
        values,
        color=color,
        linestyle="--" if place >= len(COLORS) else "-",
        linewidth=1.2,
        marker=MARKERS[place % len(MARKERS)],
        markersize=3,
        label=name,
        zorder=2,
    )
    if series.spread[name] is not None:
        low, high = values - series.spread[name], values + series.spread[name]
        ax.fill_between(positions, low, high, color=color, alpha=0.12, linewidth=0, zorder=1)


def _label_classes(ax, series):
    """Labels every class or, of many, some: by name, else by place in the order."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    step = 1 if series.num_classes <= FEW_CLASSES else -(-series.num_classes // FEW_CLASSES)
    ticks = np.arange(0, series.num_classes, step)
    unnamed = all(label.isdecimal() for label in series.labels)
    by_rank = unnamed and step > 1 and series.counts is not None
    labels = [str(tick) if by_rank else series.labels[tick] for tick in ticks]
    ax.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    ax.xaxis.set_major_formatter(FixedFormatter(labels))
    if max(len(label) for label in labels) > 3:
        ax.tick_params(axis="x", labelrotation=45)
        for label in ax.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, series.num_classes - 0.4)
    if by_rank:
        ax.set_xlabel("rank of the class by frequency (0: most frequent)")
    else:
        ax.set_xlabel("class" if series.counts is None else "class, most frequent first")


def _rows(array, name, by_label):
    """Values of all classes, `(repeats, classes)`; of several labels, negatives and positives."""
    dimensions = (2, 3) if by_label else (1, 2)
    if array.ndim not in dimensions or array.size == 0 or (by_label and array.shape[-1] != 2):
        shapes = "(labels, 2) or (repeats, labels, 2)"
        if not by_label:
            shapes = "(num_classes,) or (repeats, num_classes)"
        raise ValueError(
            f"`{name}` must have shape {shapes}. Received: an array of shape {array.shape}"
        )
    if by_label:
        array = array.reshape(-1, array.shape[-2] * 2)
    return np.atleast_2d(np.where(np.isfinite(array), array, np.nan))


def _over_rows(function, rows):
    """A mean or a deviation that leaves out what is missing; NaN where everything is."""
    result = np.full(rows.shape[1], np.nan)
    known = ~np.isnan(rows).all(axis=0)
    result[known] = function(rows[:, known], axis=0)
    return result


def _check_length(entries, num_classes, name, argument):
    if len(entries) != num_classes:
        raise ValueError(
            f"`{name}` must have one entry per class. Received: {len(entries)} entries for "
            f"`{argument}` of {num_classes} classes"
        )
