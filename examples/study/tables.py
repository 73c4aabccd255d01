"""The report: tables in Markdown, a summary in JSON, and the pictures."""

import json
from pathlib import Path

import numpy as np

from examples.study import pictures
from examples.study.report import (
    BASE,
    DEFAULT,
    MAIN_ROWS,
    compare,
    every_row,
    interval,
    load,
    summary,
)
from examples.study.runs import file_of, load_recipe

COLUMNS = {
    "method": lambda r: r["row"],
    "rank": lambda r: f"{r['rank']:.1f}",
    "balanced accuracy": lambda r: _difference(r["balanced accuracy"], r["half width"]),
    "better / worse": lambda r: f"{r['wins']} / {r['losses']}",
    "worst": lambda r: f"{r['worst']:+.1f}",
    "behind the best": lambda r: f"{r['behind best fixed']:.2f}",
    **{
        name: lambda r, name=name: f"{r[name]:+.1f}"
        for name in ("macro F1", "accuracy", "frequent third", "rare third", "calibration error")
    },
}
RULES = (
    DEFAULT,
    "LA + LPL, running, kappa 2 power 16",
    "LA + LPL, running, kappa 2 power 8",
    "LA + LPL, batch, power 8",
    "LA + LPL, overall, power 16",
    "LA + LPL, loss, power 8",
    "LA + LPL, lead, power 0.2",
    "LA + LPL, smoothed, smooth 20",
    "LA by confidence, kappa 0.5",
    "LA + margin, kappa 1",
    "LA + margin, kappa 2",
)
POSITIVES = ("recall", "precision", "f1", "chosen_recall", "chosen_precision", "chosen_f1")
POSITIVES += ("balanced_accuracy", "chosen_balanced_accuracy", "average_precision")


def write(folder, recipe):
    """Writes `tables.md`, `settings.md`, `summary.json` and the pictures beside the results.

    Args:
        folder: Where the results are.
        recipe: The file whose cells are reported, as far as they have results.
    """
    folder = Path(folder)
    cells = load(file_of(cell, folder) for cell in load_recipe(recipe))
    if not cells:
        raise SystemExit(f"No results in {folder}: run the study first.")
    several = [cell for cell in cells if not cell.is_binary]
    binary = [cell for cell in cells if cell.is_binary]
    parts = by_regime(several) | ({"Binary tables": binary} if binary else {})
    lines, found = [], {}
    for title, part in parts.items():
        for base in (BASE, "LA, chosen"):
            heading = f"{title}, against {base}"
            found[heading] = table = summary(part, rows_of(part), base)
            lines += [f"### {heading}", "", *markdown(table, COLUMNS), ""]
    if several:
        lines += ["### Where it helps", "", *by_kind(several), ""]
        lines += ["### LPL on top of each tau", "", *on_top(several), ""]
        lines += ["### Balanced accuracy of each cell", "", *of_cells(several), ""]
    if binary:
        lines += ["### The rare class of the binary tables", "", *of_positives(binary), ""]
    (folder / "tables.md").write_text("\n".join(lines))
    lines = []
    for title, part in parts.items():
        most = max(len(cell.lanes) for cell in part)
        part = [cell for cell in part if len(cell.lanes) == most]
        title = f"{title}, {len(part)} cells with all methods"
        found[f"{title}, every row"] = table = summary(part, every_row(part), BASE)
        table = sorted(table, key=lambda r: -r["balanced accuracy"])
        lines += [f"### {title}: every setting against {BASE}", "", *markdown(table, COLUMNS), ""]
    (folder / "settings.md").write_text("\n".join(lines))
    (folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    pictures.draw(folder, several or binary)


def sections(cells):
    """The tables of a page, by the names of their places."""
    several = [cell for cell in cells if not cell.is_binary]
    binary = [cell for cell in cells if cell.is_binary]
    whole = [cell for cell in several if all(cell.has(row) for row in RULES)]
    columns = {name: COLUMNS[name] for name in ("method", "balanced accuracy", "better / worse")}
    columns |= {name: COLUMNS[name] for name in ("worst", "frequent third", "rare third")}
    return {
        "where": by_kind(several),
        "cost": markdown(summary(several, rows_of(several), BASE), COLUMNS),
        "rules": markdown(summary(whole, RULES, BASE), columns),
        "tau": on_top(several),
        "positives": of_positives(binary),
    }


def fill(page, folder, recipe):
    """Fills the tables of a page, each after a line `<!-- study: NAME -->`, up to `<!-- end -->`.

    The pictures are drawn beside the results.
    """
    cells = load(file_of(cell, folder) for cell in load_recipe(recipe))
    text = Path(page).read_text()
    for name, lines in sections(cells).items():
        begin, end = f"<!-- study: {name} -->\n", "\n<!-- end -->"
        start = text.index(begin) + len(begin)
        stop = text.index(end, start)
        text = text[:start] + "\n" + "\n".join(lines) + "\n" + text[stop:]
    Path(page).write_text(text)
    pictures.draw(folder, [cell for cell in cells if not cell.is_binary])


def rows_of(cells):
    """The main rows that all cells have."""
    return [row for row in MAIN_ROWS if all(cell.has(row) for cell in cells)]


def by_regime(cells):
    """Headings to cells: all, and those of each regime."""
    parts = {"All sets of several classes": cells} if cells else {}
    for regime in dict.fromkeys(cell.regime for cell in cells):
        parts[regime.capitalize()] = [cell for cell in cells if cell.regime == regime]
    return parts


def markdown(table, columns):
    """Lines of a Markdown table; `columns` maps headings to functions of a row's dict."""
    lines = ["| " + " | ".join(columns) + " |", "| --- " + "| ---: " * (len(columns) - 1) + "|"]
    for row in table:
        if isinstance(row, dict) and row["row"] == DEFAULT:
            row = row | {"row": "**`LPLLoss(counts)`**"}
        lines.append("| " + " | ".join(cell(row) for cell in columns.values()) + " |")
    return lines


def by_kind(cells):
    """Mean difference in balanced accuracy to LA, by what the samples are and by regime."""
    kinds = dict.fromkeys((cell.kind, cell.regime) for cell in cells)
    parts = {
        f"{regime}, {kind}": [c for c in cells if (c.kind, c.regime) == (kind, regime)]
        for kind, regime in kinds
    }
    return _differences(parts, [(row, BASE) for row in rows_of(cells)])


def on_top(cells):
    """Mean difference in balanced accuracy of LA with and without LPL, at each tau."""
    taus = ("tau 0.5", "tau 1", "tau 1.5", "tau 2", "chosen")
    pairs = [(f"LA of tau + LPL, running, {tau}", f"LA, {tau}") for tau in taus]
    pairs = [pair for pair in pairs if all(c.has(pair[0]) and c.has(pair[1]) for c in cells)]
    return _differences(by_regime(cells), pairs)


def _differences(parts, pairs):
    """A table of one row for each pair of rows, one column for each part of the cells."""
    columns = {"method": lambda r: r["row"]}
    columns |= {title: lambda r, title=title: r[title] for title in parts}
    same_base = all(base == BASE for _, base in pairs)
    table = []
    for row, base in pairs:
        means = {title: compare(part, row, base)[:, 0] for title, part in parts.items()}
        name = row if same_base else f"{row} against {base}"
        table.append({"row": name} | {t: _difference(*interval(m)) for t, m in means.items()})
    return markdown(table, columns)


def _difference(mean, half_width):
    return f"{mean:+.2f} ± {half_width:.2f}"


def of_cells(cells):
    """A table of mean balanced accuracy, one row for each cell."""
    rows = rows_of(cells)
    columns = {"set and regime": lambda cell: cell.name}
    columns |= {r: lambda c, r=r: f"{c.values(r, 'balanced_accuracy').mean():.1f}" for r in rows}
    return markdown(cells, columns)


def of_positives(cells):
    """Mean over the binary tables of recall, precision and F1 of the rare class."""
    table = [
        {"row": row} | {n: np.mean([c.values(row, n).mean() for c in cells]) for n in POSITIVES}
        for row in rows_of(cells)
    ]
    columns = {"method": lambda r: r["row"]}
    columns |= {n.replace("_", " "): lambda r, n=n: f"{r[n]:.1f}" for n in POSITIVES}
    return markdown(table, columns)
