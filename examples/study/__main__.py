"""A paired study of losses for imbalanced classes, with a small head on many data sets.

    python -m examples.study run                   every cell that has no result yet
    python -m examples.study run --only digits     those whose name contains a word
    python -m examples.study report                tables and pictures from the results
    python -m examples.study report --results docs/results/study --page docs/results.md
    python -m examples.study features IMAGES.npz   features of a pretrained network, for CIFAR

Runs on the JAX backend. A cell is one data set under one regime: all methods and seeds train side
by side in one compiled step, and its results are one file, so that a study that was stopped goes
on where it was.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # what the examples share


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and measure")
    run.add_argument("--recipe", type=Path, default=HERE / "study.toml")
    run.add_argument("--only", action="append", default=[], help="part of a cell's name")
    run.add_argument("--seeds-at-once", type=int, default=10, help="fewer need less memory")
    run.add_argument("--results", type=Path, default=Path("results/study"))
    report = commands.add_parser("report", help="tables and pictures")
    report.add_argument("--recipe", type=Path, default=HERE / "study.toml")
    report.add_argument("--results", type=Path, default=Path("results/study"))
    report.add_argument("--page", type=Path, help="fill the tables of this page instead")
    features = commands.add_parser("features", help="features of images")
    features.add_argument("images", type=Path, nargs="+", help="cifar10.npz, cifar100.npz")
    arguments = parser.parse_args()
    {"run": _run, "report": _report, "features": _features}[arguments.command](arguments)


def _run(arguments):
    from common import environment
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from examples.study import runs

    cells = runs.load_recipe(arguments.recipe)
    names = [f"{cell['set']} {cell['regime']}" for cell in cells]
    chosen = [
        (name, cell)
        for name, cell in zip(names, cells, strict=True)
        if not arguments.only or any(word in name for word in arguments.only)
    ]
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns) as progress:
        overall = progress.add_task("all cells", total=len(chosen))
        for name, cell in chosen:
            path = runs.file_of(cell, arguments.results)
            if not path.exists():
                task = progress.add_task(name, total=1.0)
                content = runs.run_cell(
                    cell,
                    environment(),
                    arguments.seeds_at_once,
                    lambda done, task=task: progress.update(task, completed=done),
                )
                runs.write(path, content)
                progress.remove_task(task)
                progress.console.print(f"{name}: {path.name}")
            progress.advance(overall)


def _report(arguments):
    from examples.study import tables

    if arguments.page:
        tables.fill(arguments.page, arguments.results, arguments.recipe)
    else:
        tables.write(arguments.results, arguments.recipe)


def _features(arguments):
    from examples.study import features, sets

    folder = os.environ.get(sets.CACHE)
    if not folder:
        raise SystemExit(f"Set {sets.CACHE} to the folder, outside the repository, to write to.")
    for images in arguments.images:
        features.compute(images, Path(folder) / f"{images.stem}-features.npz")


if __name__ == "__main__":
    main()
