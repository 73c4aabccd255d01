"""Results as files and as tables. Needs no Keras, so that a script may use it and start at once."""

import json
from pathlib import Path

import numpy as np

SHOTS = ("many", "medium", "few")


def write_json(path, content):
    """Writes a result file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def mean_and_spread(values, decimals=1):
    """Mean and standard deviation of fractions, in percent: `"71.9 ± 0.9"`.

    One value has no deviation. If any value is `None`, the result is `"-"`.
    """
    if any(value is None for value in values):
        return "-"
    percent = 100 * np.asarray(values)
    spread = f" ± {percent.std(ddof=1):.{decimals}f}" if len(percent) > 1 else ""
    return f"{percent.mean():.{decimals}f}{spread}"


def summary(runs):
    """Balanced error and accuracy by shot of each method, in percent.

    Args:
        runs: Dicts with "method" and what `common.measure` returns.

    Returns:
        `(columns, rows)`, all strings.
    """
    columns = ["method", "runs", "balanced error", *(f"{shot}-shot" for shot in SHOTS)]
    keys = ["balanced_error", *(f"{shot}_shot_accuracy" for shot in SHOTS)]
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        cells = [mean_and_spread([run[key] for run in mine]) for key in keys]
        rows.append([method, str(len(mine)), *cells])
    return columns, rows


def print_table(runs, title):
    """Shows `summary` on the terminal, without the number of runs."""
    caption = "balanced error and accuracies in %, mean ± standard deviation over runs"
    columns, rows = summary(runs)
    print_rows([columns[0], *columns[2:]], [[r[0], *r[2:]] for r in rows], title, caption)


def print_rows(columns, rows, title, caption):
    """Shows a table on the terminal: names in the first column, numbers in the others.

    Where it is wider than the terminal, headings and names go on in the next line; numbers do not.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        is_name = index == 0
        widest = max((len(row[index]) for row in rows), default=0)
        table.add_column(
            column,
            justify="left" if is_name else "right",
            overflow="fold",
            min_width=None if is_name else widest,
        )
    for row in rows:
        table.add_row(*row)
    Console(width=max(80, Console().width)).print(table)


def markdown_table(columns, rows, numbers=True):
    """A table for a page of the documentation.

    Args:
        columns: Strings.
        rows: Lists of strings, one for each column.
        numbers: If True, all columns but the first hold numbers and are aligned on the right.
    """
    rule = ["---", *["---:" if numbers else "---"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def progress_bar():
    """A bar with the time gone and the time left; where there is no terminal, a line per tenth."""
    from rich import get_console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Lines(Progress):
        tenths = 0

        def advance(self, task_id, advance=1):
            super().advance(task_id, advance)
            task = self.tasks[task_id]
            tenths = int(10 * task.completed / max(task.total, 1))
            if tenths > self.tenths:
                self.tenths = tenths
                done = f"{task.completed:.0f}/{task.total:.0f}"
                print(f"{task.description.strip()}: {done}, {task.elapsed:.0f} s", flush=True)

    console = get_console()
    has_bar = console.is_terminal or console.is_jupyter
    return (Progress if has_bar else Lines)(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        disable=not has_bar,
    )
