"""On paper: what replicas exchange for a loss, beside the gradients that they exchange anyway.

    KERAS_BACKEND=torch python benchmarks/devices.py
    KERAS_BACKEND=torch python benchmarks/devices.py --page docs/devices.md

Nothing is timed. The numbers of a row are counted where the library packs it; times are those of a
ring over links of a given bandwidth and latency. `--help` shows what can be assumed otherwise.

    gather           all rows to all: (R - 1) B rows, once
    sums by class    one step of LPL needs the mean gradient of each class of the batch, so that an
                     all-reduce of (classes in the batch) x C numbers would do; counted twice, as a
                     ring passes them on twice
    gradients        all-reduce of all weights, in float32
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

import keras_lpl
from keras_lpl import engines
from keras_lpl.core import replicas

sys.path.append(str(Path(__file__).parent.parent / "examples"))

from reporting import markdown_table

DEVICES = (8, 32, 128, 1024)
CLASSES = (1_000, 100_000)
FEATURES = 2048
BYTES = 4


def columns_of_a_row():
    """Numbers that are gathered of a row, beside its logits: counted in the library itself."""
    samples = keras_lpl.read_output(np.array([0, 1]), np.zeros((2, 3), "float32"))
    seen = []

    def gather_rows(x, gradient_scale):
        seen.append(x.shape[-1])
        return x, 0

    original, engines.gather_rows = engines.gather_rows, gather_rows
    try:
        replicas.gather(samples, None, 1.0)
    finally:
        engines.gather_rows = original
    return seen[0] - 3


def ring(steps, share, options):
    """Bytes and milliseconds of a ring of so many steps, each of which sends `share` bytes."""
    moved = steps * share
    seconds = moved / (options.bandwidth * 1e9) + steps * options.latency * 1e-6
    return moved, 1e3 * seconds


def costs(devices, classes, options):
    """Bytes and milliseconds a step of each exchange, by name."""
    rows = options.batch_size
    gathered = rows * (classes + columns_of_a_row()) * BYTES
    present = min(classes, rows * devices)
    sums = present * classes * BYTES
    weights = (options.weights + FEATURES * classes) * BYTES
    return {
        "gather": ring(devices - 1, gathered, options),
        "sums by class": ring(2 * (devices - 1), sums / devices, options),
        "gradients": ring(2 * (devices - 1), weights / devices, options),
    }


def make_table(options):
    """Markdown table of all sizes."""
    rows = []
    for classes in CLASSES:
        for devices in DEVICES:
            found = costs(devices, classes, options)
            cells = [f"{moved / 1e6:,.0f} MB, {time:,.1f} ms" for moved, time in found.values()]
            cheaper = min(("gather", "sums by class"), key=lambda name: found[name][1])
            share = found[cheaper][1] / found["gradients"][1]
            rows.append([f"{classes:,}", f"{devices:,}", *cells, f"{cheaper}, {share:.0%}"])
    names = ["gather", "sums by class", "gradients"]
    return markdown_table(
        ["classes", "devices", *names, "cheaper, and its share of the gradients' time"], rows
    )


def read_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=64, help="of a device (default: 64)")
    parser.add_argument("--weights", type=float, default=23.5e6, help="before the last layer")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="GB/s a device (default: 25)")
    parser.add_argument("--latency", type=float, default=5.0, help="us a step (default: 5)")
    parser.add_argument("--page", type=Path, help="page whose table is to be filled")
    return parser.parse_args(arguments)


def main():
    options = read_options()
    table = make_table(options)
    print(table)
    if options.page:
        begin, end = "<!-- exchange -->", "<!-- end of exchange -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        text = pattern.sub(f"{begin}\n\n{table}\n\n{end}", options.page.read_text())
        options.page.write_text(text)


if __name__ == "__main__":
    main()
