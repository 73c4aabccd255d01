"""What the examples share: how results are measured, written and shown."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

import keras_lpl

SHOTS = ("many", "medium", "few")


def digits_network(head=keras.layers.Dense):
    """64 pixels, two hidden layers, one logit per digit: no softmax at the end.

    Args:
        head: Makes the last layer, `head(10)`: last, as the seed gives weights in this order.
    """
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, head(10)(x))


def measure(logits, labels, class_counts):
    """Balanced error, accuracy per class, and accuracy of the classes with many, medium and few
    training samples; all as fractions."""
    labels = np.asarray(labels)
    correct = np.argmax(logits, axis=-1) == labels
    of_class = np.array([correct[labels == c].mean() for c in range(len(class_counts))])
    counts = np.asarray(class_counts)
    groups = {"many": counts > 100, "few": counts < 20}
    groups["medium"] = ~(groups["many"] | groups["few"])
    shots = {f"{s}_shot_accuracy": mean_or_none(of_class[groups[s]]) for s in SHOTS}
    return {
        "balanced_error": float(1 - of_class.mean()),
        "accuracy": float(correct.mean()),
        **shots,
        "class_accuracy": [float(a) for a in of_class],
    }


def mean_or_none(values):
    return float(np.mean(values)) if len(values) else None


def environment():
    """Versions and hardware, to be written beside every result."""
    versions = {"python": platform.python_version(), "keras_lpl": keras_lpl.__version__}
    for package in ("keras", "numpy", "jax", "tensorflow", "tensorflow-cpu", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "backend": keras.config.backend(),
        "versions": versions,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(terse=True),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_json(path, content):
    """Writes a result file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def summary(runs):
    """Error, and accuracies by shot: mean and standard deviation over runs, by method, in percent.

    Args:
        runs: Dicts with "method", "balanced_error" and the accuracies of `measure`.

    Returns:
        `(columns, rows)`, all strings.
    """
    columns = ["method", "runs", "balanced error", *(f"{shot}-shot" for shot in SHOTS)]
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        keys = ["balanced_error", *(f"{shot}_shot_accuracy" for shot in SHOTS)]
        cells = [_mean_and_spread([run[key] for run in mine]) for key in keys]
        rows.append([method, str(len(mine)), *cells])
    return columns, rows


def _mean_and_spread(values):
    if any(value is None for value in values):
        return "-"
    values = 100 * np.asarray(values)
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def print_table(runs, title):
    """Shows `summary` on the terminal."""
    from rich.console import Console
    from rich.table import Table

    columns, rows = summary(runs)
    table = Table(title=title, title_justify="left")
    for column in columns:
        is_name = column == "method"
        table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for row in rows:
        table.add_row(*row)
    table.caption = "balanced error and accuracies in %, mean ± standard deviation over runs"
    table.caption_justify = "left"
    Console(width=max(80, Console().width)).print(table)


def markdown_table(runs):
    """`summary` for a page of the documentation."""
    columns, rows = summary(runs)
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def progress_bar():
    """A bar with the time gone and the time left; plain lines where there is no terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


class ShowEpochs(keras.callbacks.Callback):
    """Moves a progress bar on by one at each epoch."""

    def __init__(self, advance):
        super().__init__()
        self.advance = advance

    def on_epoch_end(self, epoch, logs=None):
        self.advance()
