"""The tables and figures of the LPL paper, a row or all of it, on any backend.

    python examples/reproduce.py --list
    python examples/reproduce.py --table 4 --scale smoke
    python examples/reproduce.py --table 3 --rows LPL,LA+LPL --seeds 3 --scale full --search
    python examples/reproduce.py --figure 5 --scale small

Interrupted, the same command goes on where it stopped, inside a run at its last whole epoch. A run
that fails is reported, and the others go on. Each run is a process of its own and writes one JSON
file to `--out`; the table is made from these files and says at which scale it was made:

    smoke   digits and two epochs, seconds: shows that everything runs
    small   real data, a smaller network and a shorter training: hours on two cores
    full    as in the paper's comparison: for a GPU

`--data` is a folder with `cifar10.npz` and `cifar100.npz` (x_train, y_train, x_test, y_test), or
where TensorFlow Datasets keeps what it downloads.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import reproduction
from common import write_json
from training import quiet, run, run_name

EPOCH = "epoch: "  # what a run's process says after each epoch begins with this


def planned(options):
    """`(label, config)` of the runs that are missing, in the order in which they are made.

    With `--search`, the runs of the search come first; the others are planned when it is done.
    """
    table = reproduction.read(options.table)
    rows = reproduction.selected(table["rows"], options.rows, "row")
    columns = reproduction.selected(table["columns"], options.columns, "column")
    search, final = [], []
    for column in columns:
        seeds = options.seeds or reproduction.seeds_of(table, column, options.scale)
        for seed, row in ((seed, row) for seed in range(seeds) for row in rows):
            label = f"{row['name']}, {column['name']}, seed {seed}"
            config = reproduction.config_of(table, column, row, options.scale, seed, options.data)
            if options.precision:
                config["training"]["precision"] = options.precision
            if options.search and row.get("grid"):
                points = reproduction.candidates(config, row)
                search += [(f"search {row['name']}, {column['name']}", p) for p in points]
                config = reproduction.with_best(config, row, options.out)
            if config is not None:
                final.append((label, config))
    runs = {}
    for label, config in search + final:  # at scale smoke several columns are one
        runs.setdefault(run_name(config), (label, config))
    return [
        entry
        for name, entry in runs.items()
        if not (options.out / f"{name}.json").exists() and name not in options.failed
    ]


def execute(options):
    """Makes every missing run, and returns the names of those that failed."""
    with Display(options.jobs) as display:
        # A search that is complete brings new runs, so the plan is made until it is empty.
        while runs := planned(options):
            display.plan(runs)
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                futures = [pool.submit(one, *entry, options, display) for entry in runs]
                try:
                    for future in concurrent.futures.as_completed(futures):
                        future.result()
                except KeyboardInterrupt:
                    options.interrupted = True
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in options.processes:
                        process.terminate()
                    raise
    return options.failed


def one(label, config, options, display):
    """One run, in a process of its own: what takes it down does not take down the others."""
    name = run_name(config)
    description = options.out / "running" / f"{name}.json"
    write_json(description, config)
    command = [sys.executable, __file__, "--run", description, "--out", options.out]
    if options.data is not None:
        command += ["--data", options.data]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**shared_environment(options.jobs), **os.environ},
        start_new_session=True,  # an interruption is this process's to deal with
    )
    options.processes.append(process)
    said = []
    for line in process.stdout:
        if line.startswith(EPOCH):
            display.epoch(name, label, config, json.loads(line.removeprefix(EPOCH)))
        else:
            said.append(line)
    code = process.wait()
    if options.interrupted:
        return
    description.unlink()
    log = options.out / "failed" / f"{name}.txt"
    if code == 0:
        log.unlink(missing_ok=True)
        result = json.loads((options.out / f"{name}.json").read_text())
        display.done(name, f"{label}: error {100 * result['balanced_error']:.2f}%")
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(said))
        options.failed.append(name)
        reason = said[-1].strip() if said else f"exit code {code}"
        display.done(name, f"{label}: FAILED, {reason} (all of it: {log})")


def shared_environment(jobs):
    """What lets several runs share a machine: a part of the processors each, and of a GPU."""
    if jobs == 1:
        return {}
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    return {
        "TF_NUM_INTRAOP_THREADS": threads,  # TensorFlow
        "OMP_NUM_THREADS": threads,  # PyTorch
        "NPROC": threads,  # JAX
        # None takes all of a GPU's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


class Display:
    """Progress over runs and epochs, with the time left: a bar on a terminal, lines elsewhere."""

    def __init__(self, jobs):
        from rich.console import Console

        self.console, self.jobs = Console(soft_wrap=True, highlight=False), jobs
        self.left, self.seconds = {}, {}

    def __enter__(self):
        from common import progress_bar

        self.bar = progress_bar() if self.console.is_terminal else None
        if self.bar is not None:
            self.console = self.bar.console
            self.bar.start()
            self.task = self.bar.add_task("epochs of all runs", total=None)
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.stop()

    def plan(self, runs):
        """Takes up runs: counts their epochs."""
        self.left = {run_name(config): config["training"]["epochs"] for _, config in runs}
        self.total = sum(self.left.values())
        self.start = time.perf_counter()
        self.console.print(f"{len(runs)} runs, {self.total} epochs")
        if self.bar is not None:
            self.bar.update(self.task, total=self.total, completed=0)

    def epoch(self, name, label, config, logs):
        """Takes up one epoch of one run."""
        epochs = config["training"]["epochs"]
        self.left[name] = epochs - logs["epoch"]
        self.seconds[name] = logs["seconds"]
        left = sum(self.left.values())
        pace = sum(self.seconds.values()) / len(self.seconds) / self.jobs
        if self.bar is not None:
            self.bar.update(self.task, description=label, completed=self.total - left)
            return
        self.console.print(
            f"{label}: epoch {logs['epoch']}/{epochs}, loss {logs['loss']:.3f}, "
            f"accuracy {logs['accuracy']:.3f}, {logs['seconds']:.1f} s; "
            f"all {duration(pace * left)} left"
        )

    def done(self, name, text):
        """Ends a run."""
        self.left.pop(name, None)
        self.console.print(f"{text} ({len(self.left)} runs left)")


def duration(seconds):
    """`1 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 60 else f"{round(seconds)} s"


def run_here(options):
    """The process of one run."""
    quiet()

    def report(epoch, logs):
        print(EPOCH + json.dumps({"epoch": epoch, **logs}), flush=True)

    run(json.loads(options.run.read_text()), options.out, options.data, report)


def figure(options):
    """Figures 1 and 5 come from one script."""
    sizes = {
        "smoke": ["--data", "digits", "--epochs", "2", "--depth", "8"],
        "small": ["--epochs", "10", "--depth", "8"],
        "full": ["--epochs", "200", "--depth", "32"],
    }
    command = [sys.executable, Path(__file__).with_name("loss_variation.py")]
    command += ["--figure", str(options.figure), "--out", options.out, *sizes[options.scale]]
    if options.scale != "smoke":
        local = options.data and options.data / "cifar100.npz"
        command += ["--data", local if local and local.exists() else "cifar100"]
    sys.exit(subprocess.run(command).returncode)


def show_list():
    """Every table with its rows and columns."""
    for name in reproduction.tables():
        table = reproduction.read(name)
        print(f"--table {name}: {table['title']}")
        print("    columns:", "; ".join(column["name"] for column in table["columns"]))
        print("    rows:", "; ".join(row["name"] for row in table["rows"]))
    print("--figure 1: how ISDA, LA and LDAM change the loss of each class")
    print("--figure 5: how LPL does")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="show tables, columns and rows")
    parser.add_argument("--table", metavar="N", help="the table to make")
    parser.add_argument("--figure", type=int, choices=(1, 5), help="the figure to make")
    parser.add_argument("--rows", metavar="NAMES", help="only these: names, separated by , or ;")
    parser.add_argument("--columns", metavar="NAMES", help="only these")
    parser.add_argument("--scale", choices=reproduction.SCALES, default="small")
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
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.failed, options.processes, options.interrupted = [], [], False
    if options.run is not None:
        run_here(options)
    elif options.list:
        show_list()
    elif options.figure:
        figure(options)
    elif options.table is None:
        parser.error("give --table, --figure or --list")
    elif options.dry_run:
        for label, config in planned(options):
            print(f"{label}  ({run_name(config)})")
    else:
        make_table(options)


def make_table(options):
    """Runs what is missing, and prints and writes the table."""
    try:
        execute(options)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where it stopped.", file=sys.stderr)
        sys.exit(130)
    text = reproduction.markdown(options.table, options.scale, options.out, options.search)
    file = options.out / f"table{options.table}_{options.scale}.md"
    file.write_text(text + "\n")
    print(f"\n{text}\n\nwritten to {file}")
    if options.failed:
        print(f"{len(options.failed)} runs failed; the same command tries them again.")
        sys.exit(1)


if __name__ == "__main__":
    main()
