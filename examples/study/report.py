"""Paired statistics over the cells of a study.

A *row* of the report is one way to proceed: a method with fixed settings, or a family whose
settings are chosen, for each seed, by balanced accuracy on that seed's held-out samples.
"""

import dataclasses
import json

import numpy as np

# Two-sided 97.5% quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 beyond.
T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)
T_QUANTILES += (2.13, 2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05)

BASE = "LA, tau 1"
SELF_SETTING = "LA + LPL, running"
DEFAULT = f"{SELF_SETTING}, kappa 1 power 16"  # of `LPLLoss(counts)`
MAIN_ROWS = (
    "cross-entropy",
    "class weights",
    "class-balanced focal, chosen",
    "LDAM-DRW",
    "VS, chosen",
    "post-hoc LA, chosen",
    "LA, tau 1",
    "LA, tau 1.5",
    "LA, chosen",
    "LPL, chosen",
    "LA + LPL, kappa 1",
    "LA + LPL, chosen",
    DEFAULT,
    "LA + LPL, running, kappa 2 power 8",
    "LA of tau + LPL, running, chosen",
)
MEASURES = {
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
    "accuracy": "accuracy",
    "frequent third": "head_accuracy",
    "rare third": "tail_accuracy",
    "calibration error": "calibration_error",
}


@dataclasses.dataclass
class Cell:
    """The results of one set under one regime."""

    set: str
    regime: str
    lanes: dict
    class_counts: list

    @property
    def name(self):
        return f"{self.set}, {self.regime}"

    @property
    def is_binary(self):
        return len(self.class_counts) == 2

    @property
    def kind(self):
        """What the samples are: "features" of images, or "tables"."""
        return "features" if self.set.startswith("cifar") else "tables"

    def has(self, row):
        """Tells whether the row was measured here."""
        return self.values(row, "balanced_accuracy") is not None

    def values(self, row, measure):
        """`(seeds,)`, in percent, of a lane or of a family's chosen lanes; None if not measured."""
        if row in self.lanes:
            values = self.lanes[row].get(measure)
            return None if values is None else 100 * np.array(values)
        family = [lane for lane in self.lanes.values() if f"{lane['family']}, chosen" == row]
        if not family or measure not in family[0]:
            return None
        held_out = np.array([lane["held_out_balanced_accuracy"] for lane in family])
        # Of equal ones, the middle: an extreme setting needs a reason.
        best = [np.flatnonzero(column == column.max()) for column in held_out.T]
        chosen = [each[len(each) // 2] for each in best]
        values = np.array([lane[measure] for lane in family])
        return 100 * values[chosen, np.arange(values.shape[1])]


def load(paths):
    """The cells in those of the files that are there."""
    cells = []
    for path in paths:
        if path.exists():
            content = json.loads(path.read_text())
            lanes = {lane["name"]: lane for lane in content["lanes"]}
            about = content["cell"]
            cells.append(Cell(about["set"], about["regime"], lanes, content["class_counts"]))
    return cells


def interval(differences):
    """Mean of paired differences, and half the width of its 95% interval."""
    differences = np.asarray(differences, dtype="float64")
    count = len(differences)
    if count < 2:
        return differences.mean(), float("nan")
    t = T_QUANTILES[count - 2] if count - 2 < len(T_QUANTILES) else 1.96
    return differences.mean(), t * differences.std(ddof=1) / np.sqrt(count)


def compare(cells, row, base, measure="balanced_accuracy"):
    """`(cells, 2)`: mean difference of `row` to `base` over seeds in each cell, and half-width."""
    return np.array(
        [interval(cell.values(row, measure) - cell.values(base, measure)) for cell in cells]
    )


def best_fixed(cell):
    """The best mean over seeds of any fixed tau and kappa: known only once all are tested."""
    names = [name for name, lane in cell.lanes.items() if lane["family"] in ("LA", "LA + LPL")]
    return max(cell.values(name, "balanced_accuracy").mean() for name in names)


def summary(cells, rows, base):
    """A table over cells: how each row compares with `base`.

    Returns:
        A list of dicts: the row, its mean rank, the mean over cells of its differences in each
        measure, the interval of that of the balanced accuracy, wins and losses (cells whose
        interval leaves out 0), the worst cell, and how far the mean stays behind the best fixed
        setting of each cell.
    """
    cells = [cell for cell in cells if all(cell.has(row) for row in (*rows, base))]
    means = np.array([[c.values(r, "balanced_accuracy").mean() for r in rows] for c in cells])
    ranks = _ranks(-means).mean(axis=0)
    best = np.array([best_fixed(cell) for cell in cells])
    table = []
    for index, row in enumerate(rows):
        pairs = compare(cells, row, base)
        width = interval(pairs[:, 0])[1]
        worst = int(pairs[:, 0].argmin())
        table.append(
            {
                "row": row,
                "cells": len(cells),
                "rank": float(ranks[index]),
                **{name: _mean_difference(cells, row, base, m) for name, m in MEASURES.items()},
                "half width": float(width),
                "wins": int((pairs[:, 0] > pairs[:, 1]).sum()),
                "losses": int((pairs[:, 0] < -pairs[:, 1]).sum()),
                "worst": float(pairs[worst, 0]),
                "worst cell": cells[worst].name,
                "behind best fixed": float((best - means[:, index]).mean()),
            }
        )
    return table


def _mean_difference(cells, row, base, measure):
    return float(compare(cells, row, base, measure)[:, 0].mean())


def _ranks(values):
    """Ranks from 1 along the last axis; ties share the mean of theirs."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    return below + (equal + 1) / 2


def every_row(cells):
    """All rows that every cell has: each lane, and each family of several lanes by search."""
    names = [name for name in cells[0].lanes if all(cell.has(name) for cell in cells)]
    families = [cells[0].lanes[name]["family"] for name in names]
    several = [family for family in dict.fromkeys(families) if families.count(family) > 1]
    return names + [f"{family}, chosen" for family in several]
