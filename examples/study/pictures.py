"""The pictures of the study."""

from pathlib import Path

import numpy as np

COLORS = {"memorised": "#1b6ca8", "fitted": "#2a9d5c", "underfitted": "#d1703c"}
GRAY = "0.6"


def draw(folder, cells):
    """Writes `gains.png`, `trade.png` and `settings.png` into `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    folder = Path(folder)
    for name, picture in {"gains": gains, "trade": trade, "settings": settings}.items():
        figure = picture(cells)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")


def gains(cells, row=None, other="LA, chosen"):
    """What a row gains over logit adjustment in each cell, with its 95% interval."""
    import matplotlib.pyplot as plt

    from examples.study import report

    row = row or f"{report.SELF_SETTING}, kappa 2 power 8"
    regimes = [regime for regime in COLORS if any(cell.regime == regime for cell in cells)]
    cells = [cell for regime in regimes for cell in cells if cell.regime == regime][::-1]
    figure, axes = plt.subplots(figsize=(7.5, 1 + 0.24 * len(cells)))
    heights = np.arange(len(cells))
    mine, theirs = (report.compare(cells, name, report.BASE) for name in (row, other))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.scatter(theirs[:, 0], heights, marker="D", s=18, color=GRAY, label="LA, tau by search")
    for regime in regimes:
        which = np.array([cell.regime == regime for cell in cells])
        axes.errorbar(
            mine[which, 0],
            heights[which],
            xerr=mine[which, 1],
            fmt="o",
            color=COLORS[regime],
            markersize=5,
            label=f"LA + LPL, no search, {regime}",
        )
    axes.set_yticks(heights, [cell.set for cell in cells], fontsize=8)
    axes.set_ylim(-1, len(cells))
    axes.set_xlabel("balanced accuracy, points above logit adjustment (tau 1)")
    axes.legend(fontsize=8, loc="best", framealpha=0.9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def trade(cells):
    """Frequent against rare classes: the mean over all cells, beside cross-entropy."""
    import matplotlib.pyplot as plt

    from examples.study import report

    figure, axes = plt.subplots(figsize=(7.5, 5))
    rows = [r for r in report.MAIN_ROWS if all(report._has(cell, r) for cell in cells)]
    rows += ["LA, tau 2", "LA + LPL, kappa 2"]
    for row in rows:
        if not all(report._has(cell, row) for cell in cells):
            continue
        head, tail = (
            report.compare(cells, row, "cross-entropy", f"{part}_accuracy")[:, 0].mean()
            for part in ("head", "tail")
        )
        color = "#b3243b" if "LPL" in row else GRAY
        axes.scatter(head, tail, color=color, s=30, zorder=3)
        axes.annotate(row, (head, tail), xytext=(4, 3), textcoords="offset points", fontsize=7.5)
    axes.set_xlabel("most frequent third of the classes: accuracy beside cross-entropy, points")
    axes.set_ylabel("rarest third: accuracy beside cross-entropy, points")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def settings(cells):
    """The self-setting bound's kappa and power: mean gain over logit adjustment, and the worst."""
    import matplotlib.pyplot as plt

    from examples.study import report

    lanes = [
        lane
        for lane in cells[0].lanes.values()
        if lane["family"] == report.SELF_SETTING
        and all(report._has(cell, lane["name"]) for cell in cells)
    ]
    kappas = sorted({lane["settings"]["kappa"] for lane in lanes})
    powers = sorted({lane["settings"]["power"] for lane in lanes})
    figure, both = plt.subplots(1, 2, figsize=(8.5, 3.6))
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
            axes.text(j, i, f"{value:+.1f}", ha="center", va="center", fontsize=9)
        axes.set_xticks(range(len(powers)), [f"{power:g}" for power in powers])
        axes.set_yticks(range(len(kappas)), [f"{kappa:g}" for kappa in kappas])
        axes.set(xlabel="power of the confidence", ylabel="kappa", title=title)
    figure.suptitle("Balanced accuracy of LA + LPL, points above logit adjustment", fontsize=10)
    figure.tight_layout()
    return figure
