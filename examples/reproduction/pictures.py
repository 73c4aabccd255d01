"""The charts above the tables: what was measured, from the result files in `docs/results`."""

import json
from pathlib import Path

import numpy as np
from colors import BACKENDS, color_of

from reproduction import configs, recipes, tables

DRAWN = {"4": "Table 4: CIFAR-10-LT", "3": "Table 3: CIFAR-100-LT"}


def draw(results):
    """Draws all of them beside the results."""
    results = Path(results)
    pictures = {
        "digits/balanced_error": digits(results / "digits/jax.json"),
        "reproduction/tables": of_the_paper(results / "reproduction"),
        "benchmarks/cost": cost(results / "benchmarks"),
        "benchmarks/speed": speed(results / "benchmarks"),
    }
    for name, figure in pictures.items():
        figure.savefig(results / f"{name}.png", dpi=110)


def digits(file):
    """Balanced error of every method on long-tailed digits."""
    runs = json.loads(file.read_text())["runs"]
    errors = {}
    for run in runs:
        errors.setdefault(run["method"], []).append(run["balanced_error"])
    figure = _figure(7.5, 1 + 0.22 * len(errors))
    _dots(figure.subplots(), errors)
    figure.supxlabel("balanced error in %: mean, and each of three seeds", fontsize=9)
    return figure


def of_the_paper(folder):
    """Errors of Tables 3 and 4 at scale small, and the paper's at its own."""
    figure = _figure(10, 3.6)
    for ax, (name, title) in zip(figure.subplots(1, len(DRAWN)), DRAWN.items(), strict=True):
        table = recipes.read_table(name)
        column = table["columns"][0]
        errors, papers = {}, {}
        for row in table["rows"]:
            config = configs.config_of(table, column, row, "small")
            runs = tables.runs_of(config, folder) if config else []
            if runs:
                errors[row["name"]] = [run["balanced_error"] for run in runs]
                papers[row["name"]] = row.get("paper", {}).get(column["name"], np.nan)
        order = _dots(ax, errors)
        marks = ax.plot([papers[n] for n in order], range(len(order)), "x", color="#999999")
        ax.set_title(title, loc="left", fontsize=10)
        ax.legend(marks, ["the paper, 40 times longer"], frameon=False, fontsize=8)
    figure.supxlabel("top-1 error in %", fontsize=9)
    return figure


def cost(folder):
    """What the default costs beside Keras's cross-entropy: alone, and in training steps."""
    figure = _figure(10, 3.4)
    alone, steps = figure.subplots(1, 2, width_ratios=[3, 2])
    for backend, color in BACKENDS.items():
        rows = [r for r in _rows(folder, backend, "default") if r["batch"] == 128]
        for name, style in (("LPLLoss(counts)", "o-"), ("logit adjustment", "s:")):
            ratios = [row["ratios"][f"{name} / cross-entropy"] for row in rows]
            alone.plot(
                [row["classes"] for row in rows],
                ratios,
                style,
                color=color,
                label=f"{backend}, {name}",
                markersize=4,
            )
    alone.set_xscale("log")
    alone.set_xlabel("classes", fontsize=9)
    alone.set_title("the loss and its gradient alone, 128 samples", loc="left", fontsize=10)
    alone.set_ylabel("times Keras's cross-entropy", fontsize=9)
    alone.legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
    names = ["MLP 64-128-128-10", "ResNet-32"]
    for index, (backend, color) in enumerate(BACKENDS.items()):
        values = [
            _rows(folder, backend, case)[0]["ratios"]["LPLLoss(counts) / cross-entropy"]
            for case in ("fit", "step")
        ]
        places = np.arange(len(names)) + 0.25 * (index - 1)
        bars = steps.bar(places, values, 0.23, color=color, label=backend)
        steps.bar_label(bars, fmt="%.2f", fontsize=8)
    steps.axhline(1, color="#333333", linewidth=0.8)
    steps.set_xticks(range(len(names)), names)
    steps.set_title("a whole training step", loc="left", fontsize=10)
    steps.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    for ax in (alone, steps):
        ax.set_ylim(0, 1.25 * ax.get_ylim()[1])  # room for the legend
        _tidy(ax)
    return figure


def speed(folder):
    """How many times faster than PyTorch loops LPL and ISDA are."""
    figure = _figure(8.5, 3)
    ax = figure.subplots()
    parts = {  # name: (case, how a row is known, the ratio)
        "LPL, 10 classes": ("loss", {"classes": 10}, "PyTorch loop / LPL"),
        "LPL, 100 classes": ("loss", {"classes": 100}, "PyTorch loop / LPL"),
        "ISDA, 64 features": ("isda", {"features": 64}, "PyTorch as released / ISDA full"),
        "ISDA, 640 features": ("isda", {"features": 640}, "PyTorch as released / ISDA full"),
    }
    for index, (backend, color) in enumerate(BACKENDS.items()):
        values = [
            next(r for r in _rows(folder, backend, case) if known.items() <= r.items())["ratios"][
                key
            ]
            for case, known, key in parts.values()
        ]
        bars = ax.bar(
            np.arange(len(parts)) + 0.27 * (index - 1), values, 0.25, color=color, label=backend
        )
        ax.bar_label(bars, fmt="%.1f", fontsize=8)
    ax.set_xticks(range(len(parts)), list(parts))
    ax.set_ylabel("times as fast", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    _tidy(ax)
    return figure


def _rows(folder, backend, case):
    return json.loads((folder / f"{backend}_{case.replace(' ', '-')}.json").read_text())["rows"]


def _dots(ax, errors):
    """A line for each method, the best one at the top. Returns the names from the bottom up."""
    order = sorted(errors, key=lambda name: -np.mean(errors[name]))
    for height, name in enumerate(order):
        percent = 100 * np.asarray(errors[name])
        color = color_of(name)
        ax.plot(percent, [height] * len(percent), "|", color=color, markersize=8)
        ax.plot(percent.mean(), height, "o", color=color, markersize=5)
    ax.set_yticks(range(len(order)), order, fontsize=8)
    ax.set_ylim(-0.7, len(order) - 0.3)
    _tidy(ax, axis="x")
    return order


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(ax, axis="y"):
    ax.grid(axis=axis, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
