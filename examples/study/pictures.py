"""The pictures of the study."""

from pathlib import Path

import numpy as np

from examples.colors import color_of

SHOWN = {  # row: how it is called
    "class weights": "class weights",
    "LDAM-DRW": "LDAM-DRW",
    "LA, tau 1": "logit adjustment",
}
REGIMES = ("memorised", "fitted", "underfitted")


def draw(folder, cells):
    """Writes `where.png`, `gains.png`, `trade.png` and `settings.png` into `folder`."""
    folder = Path(folder)
    drawn = {"where": where, "gains": gains, "trade": trade, "settings": settings}
    for name, picture in drawn.items():
        figure = picture(cells)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")


def where(cells):
    """What methods gain over cross-entropy, by what the samples are and how they are learnt."""
    from matplotlib.figure import Figure

    from examples.study import report

    kinds = dict.fromkeys((cell.kind, cell.regime) for cell in cells)
    methods = {**SHOWN, report.DEFAULT: "LPLLoss(counts)"}
    methods = {row: name for row, name in methods.items() if all(cell.has(row) for cell in cells)}
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for index, (row, name) in enumerate(methods.items()):
        parts = [[c for c in cells if (c.kind, c.regime) == kind] for kind in kinds]
        gained = [
            report.interval(report.compare(part, row, "cross-entropy")[:, 0]) for part in parts
        ]
        means, widths = np.array(gained).T
        axes.errorbar(
            np.arange(len(kinds)) + 0.16 * (index - (len(methods) - 1) / 2),
            means,
            widths,
            fmt="o",
            color=color_of(name),
            label=name,
            linewidth=1.2,
            markersize=5,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    names = [f"{kind},\n{regime}" for kind, regime in kinds]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylabel("balanced accuracy, points\nabove cross-entropy", fontsize=9)
    axes.legend(
        frameon=False, fontsize=9, ncols=len(methods), loc="lower left", bbox_to_anchor=(0, 1)
    )
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def gains(cells, row=None, other="LA, chosen"):
    """What a row gains over logit adjustment in each cell, with its 95% interval."""
    from matplotlib.figure import Figure

    from examples.study import report

    if row is None:
        settings = [n for n in cells[0].lanes if cells[0].lanes[n]["family"] == report.SELF_SETTING]
        row = next(r for r in (report.DEFAULT, *settings) if all(cell.has(r) for cell in cells))
    names = list(dict.fromkeys(cell.set for cell in cells))[::-1]
    regimes = [regime for regime in REGIMES if any(cell.regime == regime for cell in cells)]
    size = 2 + 2.8 * len(regimes), 1.6 + 0.24 * len(names)
    figure = Figure(figsize=size)
    panels = figure.subplots(1, len(regimes), sharey=True, squeeze=False)
    for axes, regime in zip(panels[0], regimes, strict=True):
        part = [cell for cell in cells if cell.regime == regime]
        heights = np.array([names.index(cell.set) for cell in part])
        mine, theirs = (report.compare(part, name, report.BASE) for name in (row, other))
        axes.axvline(0, color="black", linewidth=0.8)
        points = axes.scatter(theirs[:, 0], heights, marker="D", s=18, color="0.6")
        bars = axes.errorbar(
            mine[:, 0],
            heights,
            xerr=mine[:, 1],
            fmt="o",
            color=color_of("LPLLoss(counts)"),
            markersize=5,
        )
        axes.legend(
            [bars, points],
            ["LPLLoss(counts)", "LA, tau by search"],
            title=regime.capitalize(),
            fontsize=8,
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
        )
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0, 0].set_ylim(-0.7, len(names) - 0.3)
    figure.supxlabel("balanced accuracy, points above logit adjustment (tau 1)", fontsize=10)
    figure.tight_layout()
    return figure


def trade(cells):
    """Frequent against rare classes: the mean over all cells, beside cross-entropy."""
    from matplotlib.figure import Figure

    from examples.study import report

    figure = Figure(figsize=(7.5, 5))
    axes = figure.subplots()
    rows = [*report.MAIN_ROWS, "LA, tau 2", "LA + LPL, kappa 2"]
    rows = [row for row in rows if all(cell.has(row) for cell in cells)]
    points = {
        row: [
            report.compare(cells, row, "cross-entropy", f"{part}_accuracy")[:, 0].mean()
            for part in ("head", "tail")
        ]
        for row in rows
    }
    # Names stand in a column, in the order of their points.
    ordered = sorted(rows, key=lambda row: points[row][1])
    for row, height in zip(ordered, np.linspace(0.02, 0.98, len(rows)), strict=True):
        color = _color_of_row(row)
        axes.scatter(*points[row], color=color, s=30, zorder=3)
        axes.annotate(
            "LPLLoss(counts)" if row == report.DEFAULT else row,
            points[row],
            xytext=(1.04, height),
            textcoords="axes fraction",
            fontsize=8,
            color=color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.4, "relpos": (0, 0.5)},
        )
    axes.set_xlabel("most frequent third of the classes: accuracy beside cross-entropy, points")
    axes.set_ylabel("rarest third: accuracy beside cross-entropy, points")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def settings(cells):
    """The self-setting bound's kappa and power: mean gain over logit adjustment, and the worst."""
    from matplotlib.figure import Figure

    from examples.study import report

    lanes = [
        lane
        for lane in cells[0].lanes.values()
        if lane["family"] == report.SELF_SETTING and all(cell.has(lane["name"]) for cell in cells)
    ]
    kappas = sorted({lane["settings"]["kappa"] for lane in lanes})
    powers = sorted({lane["settings"]["power"] for lane in lanes})
    figure = Figure(figsize=(8.5, 3.6))
    both = figure.subplots(1, 2)
    for axes, title, of in zip(
        both, ("mean over cells", "worst cell"), (np.mean, np.min), strict=True
    ):
        values = np.full((len(kappas), len(powers)), np.nan)
        for lane in lanes:
            place = (
                kappas.index(lane["settings"]["kappa"]),
                powers.index(lane["settings"]["power"]),
            )
            values[place] = of(report.compare(cells, lane["name"], report.BASE)[:, 0])
        limit = max(np.nanmax(np.abs(values)), 0.1)
        axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            color = "white" if abs(value) > 0.6 * limit else "black"
            axes.text(j, i, f"{value:+.1f}", ha="center", va="center", fontsize=9, color=color)
        axes.set_xticks(range(len(powers)), [f"{power:g}" for power in powers])
        axes.set_yticks(range(len(kappas)), [f"{kappa:g}" for kappa in kappas])
        axes.set(xlabel="power of the confidence", ylabel="kappa", title=title)
    figure.suptitle("Balanced accuracy of LA + LPL, points above logit adjustment", fontsize=10)
    figure.tight_layout()
    return figure


def _color_of_row(row):
    """The colour of the row's method, whatever its settings."""
    from examples.study import report

    if row == report.DEFAULT:
        return color_of("LPLLoss(counts)")
    family = row.split(",")[0]
    if family.startswith(("LA + LPL", "LA of tau + LPL")):
        return color_of("LA+LPL")
    return color_of(family)
