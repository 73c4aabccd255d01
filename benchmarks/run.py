"""Speed and memory, side by side in one run: JSON and a table out.

    python benchmarks/run.py                            # every backend and case; or: make bench
    python benchmarks/run.py --backends jax --cases loss isda

Each backend runs in a process of its own, with the PyTorch references in the same process, called
in turn. A ratio is one of medians over calls. Whatever comes out is written and printed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "examples"))

from reporting import markdown_table, write_json

HERE = Path(__file__).parent
BACKENDS = ("jax", "tensorflow", "torch")
CASES = (
    "loss",
    "scale",
    "default",
    "fit",
    "isda",
    "isda step",
    "first step",
    "memory",
    "step",
    "meta step",
    "meta memory",
    "network",
    "pipeline",
)


def measure(cases, out):
    """Runs cases on the backend of this process, and writes each one's rows when it is done."""
    import quiet  # noqa: F401, before Keras

    import cases as all_cases
    import keras
    import meta
    from common import environment

    backend = keras.config.backend()
    functions = {
        "loss": lambda: all_cases.loss_case() + all_cases.loss_case(classes=10),
        "scale": all_cases.scale_case,
        "default": all_cases.default_case,
        "fit": all_cases.fit_case,
        "isda": lambda: all_cases.isda_case(64) + all_cases.isda_case(640),
        "isda step": lambda: all_cases.isda_step_case(64) + all_cases.isda_step_case(640),
        "first step": all_cases.first_step_case,
        "memory": memory_case,
        "step": all_cases.step_case,
        "meta step": meta.meta_step_case,
        "meta memory": meta_memory_case,
        "network": all_cases.network_case,
        "pipeline": all_cases.pipeline_case,
    }
    for case in cases:
        print(f"{backend}: {case} ...", flush=True)
        rows = functions[case]()
        content = {"backend": backend, "rows": rows, "environment": environment()}
        write_json(out / f"{backend}_{case.replace(' ', '-')}.json", content)


def memory_case():
    """Memory of training with each loss, each in a fresh process."""
    measured = _in_processes("cases", ("LPL", "cross-entropy"))
    rows = []
    for what in ("process", "step"):
        of_losses = {name: values[what] for name, values in measured.items()}
        row = {"case": "memory", "network": f"ResNet-32, {what}", "mebibytes": of_losses}
        lpl, plain = of_losses["LPL"], of_losses["cross-entropy"]
        if what == "process":
            rows.append({**row, "ratios": {"LPL / cross-entropy": lpl / plain}})
        else:  # no ratio: TensorFlow keeps most of its memory from step to step
            rows.append({**row, "added_mebibytes": lpl - plain, "ratios": {}})
    return rows


def meta_memory_case():
    """Memory of training steps that look ahead, each method in a fresh process."""
    import keras
    import meta

    measured = _in_processes("meta", (*meta.METHODS, meta.PLAIN))
    # TensorFlow keeps most of its memory from step to step.
    what = "training" if keras.config.backend() == "tensorflow" else "step"
    of_methods = {name: values[what] for name, values in measured.items()}
    plain = of_methods[meta.PLAIN]
    ratios = {f"{name} / {meta.PLAIN}": of_methods[name] / plain for name in meta.METHODS}
    row = {"case": "meta memory", "network": f"ResNet-32, {what}", "mebibytes": of_methods}
    return [{**row, "ratios": ratios}]


def _in_processes(module, names):
    """`memory_of(name)` of a module, each in a process of its own."""
    measured = {}
    for name in names:
        code = f"import {module}, json; print(json.dumps({module}.memory_of({name!r})))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=HERE,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        measured[name] = json.loads(result.stdout.splitlines()[-1])
    return measured


def rows_of(folder):
    """All rows in a folder, with their backend, in the order of cases and backends."""
    found = []
    for case in CASES:
        for backend in BACKENDS:
            file = folder / f"{backend}_{case.replace(' ', '-')}.json"
            if file.exists():
                content = json.loads(file.read_text())
                found += [{"backend": backend, **row} for row in content["rows"]]
    return found


def markdown(folder):
    """The table of a page: one line for each thing compared."""
    lines = []
    for row in rows_of(folder):
        size = ", ".join(
            f"{letter}={row[key]}"
            for letter, key in (("B", "batch"), ("C", "classes"), ("A", "features"))
            if key in row
        )
        times = row.get("times", {})
        shown = ", ".join(f"{name} {time['median']:.3g}" for name, time in times.items())
        if "mebibytes" in row:
            shown = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in row["mebibytes"].items())
        ratios = ", ".join(f"{name}: {value:.3g}" for name, value in row["ratios"].items())
        if "images_per_second" in row:
            speeds = (f"{name} {x:.0f}" for name, x in row["images_per_second"].items())
            ratios = "; ".join(filter(None, [ratios, f"images/s: {', '.join(speeds)}"]))
        if "added_seconds" in row:
            added = row["added_seconds"]
            ratios = ", ".join(f"{name} adds {seconds:.2f} s" for name, seconds in added.items())
        if "added_mebibytes" in row:
            ratios = f"LPL adds {row['added_mebibytes']:.0f} MiB"
        what = row["case"] + (f" ({row['network']})" if "network" in row else "")
        lines.append([what, size, row["backend"], shown, ratios])
    columns = ["what", "size", "backend", "times (ms, median)", "ratios"]
    return markdown_table(columns, lines, numbers=False)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--table", action="store_true", help="only print the table of --out")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.cases, options.out)
        return
    if not options.table:
        for backend in options.backends:
            command = [sys.executable, __file__, "--here", "--out", options.out.resolve()]
            environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([*command, "--cases", *options.cases], env=environment, check=True)
    print(markdown(options.out))


if __name__ == "__main__":
    main()
