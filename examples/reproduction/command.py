"""The command `examples/reproduce.py`."""

import argparse
import sys
from pathlib import Path

from reproduction import page, plan, recipes, runs, tables

FIGURES = {1: "how ISDA, LA and LDAM change the loss of each class", 5: "how LPL does"}


def main(description=None, arguments=None):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="show tables, columns and rows")
    parser.add_argument("--table", metavar="N", help="the table to make")
    parser.add_argument("--figure", type=int, choices=FIGURES, help="the figure to make")
    parser.add_argument("--rows", metavar="NAMES", help="only these: names, separated by , or ;")
    parser.add_argument("--columns", metavar="NAMES", help="only these")
    parser.add_argument("--scale", choices=recipes.SCALES, default="small")
    parser.add_argument("--seeds", type=int, help="how many; else as many as the scale has")
    parser.add_argument(
        "--search", action="store_true", help="search the paper's grids on held-out training data"
    )
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"))
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time, which share processors and GPU"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("results/reproduction"))
    parser.add_argument("--dry-run", action="store_true", help="show what would be run")
    parser.add_argument(
        "--pages", action="store_true", help="fill the tables of docs/ from docs/results/"
    )
    parser.add_argument("--check", action="store_true", help="with --pages: only compare")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        runs.run_child(options.out, options.data)
    elif options.list:
        show_list()
    elif options.pages:
        page.fill(check=options.check)
    elif options.figure:
        make_figure(options)
    elif options.table is None:
        parser.error("give --table, --figure or --list")
    elif options.dry_run:
        for run in plan.missing(options):
            print(f"{run.label}  ({run.name})")
    else:
        make_table(options)


def show_list():
    """Every table with its rows and columns."""
    for name in recipes.tables():
        table = recipes.read_table(name)
        print(f"--table {name}: {table['title']}")
        print("    columns:", "; ".join(column["name"] for column in table["columns"]))
        print("    rows:", "; ".join(row["name"] for row in table["rows"]))
    for number, text in FIGURES.items():
        print(f"--figure {number}: {text}")


def make_table(options):
    """Makes what is missing, and prints and writes the table."""
    runner = runs.Runner(options.out, options.data, options.jobs)
    try:
        runner.make(lambda failed: plan.missing(options, failed))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where it stopped.", file=sys.stderr)
        sys.exit(130)
    text = tables.markdown(
        options.table, options.scale, options.out, options.search, options.precision
    )
    file = options.out / f"table{options.table}_{options.scale}.md"
    file.write_text(text + "\n")
    print(f"\n{text}\n\nwritten to {file}")
    if runner.failed:
        print(f"{len(runner.failed)} runs failed; the same command tries them again.")
        sys.exit(1)


def make_figure(options):
    """Makes a figure with `loss_variation.py`, which has both."""
    import loss_variation  # loads Keras

    sizes = {
        "smoke": ["--data", "digits", "--epochs", "2", "--depth", "8"],
        "tiny": ["--epochs", "4", "--depth", "8"],
        "small": ["--epochs", "10", "--depth", "8"],
        "full": ["--epochs", "200", "--depth", "32"],
    }
    arguments = ["--figure", str(options.figure), "--out", str(options.out), *sizes[options.scale]]
    if options.scale != "smoke":
        local = options.data and options.data / "cifar100.npz"
        arguments += ["--data", str(local) if local and local.exists() else "cifar100"]
    loss_variation.main(arguments)
