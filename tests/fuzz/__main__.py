"""Fuzzes the losses on this backend, and compares backends by their files.

    python -m tests.fuzz --cases 10000 --out build/fuzz/torch.json
    python -m tests.fuzz --compare build/fuzz/*.json
    KERAS_BACKEND=torch python -m tests.fuzz --write     # the values that the test compares with

`make fuzz` does so for all backends.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from keras_lpl import engines
from tests.fuzz import compare
from tests.fuzz.run import run_setting

DRAWS = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of all numbers")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--write", action="store_true", help="write the values of the test")
    options = parser.parse_args()
    if options.compare:
        return report(compare.differences(*(json.loads(f.read_text()) for f in options.compare)))
    if options.write:
        compare.VALUES.write_text(compare.as_json(compare.of_test()[1]))
        return 0
    faults, values = [], {}
    ways = ["eager", "compiled"] if engines.compiles() else ["eager"]
    for way in ways:
        start = time.monotonic()
        for number in range(-(-options.cases // DRAWS)):
            for name, fault, numbers in run_setting(number, DRAWS, way == "compiled", options.seed):
                if fault:
                    faults.append(f"{way} {fault}")
                if way == "eager" or numbers:
                    values[f"{way} {name}"] = numbers
        print(f"{way}: {options.cases} cases in {time.monotonic() - start:.0f} s", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(compare.as_json(values))
    if engines.compiles():
        both = [
            {name.removeprefix(f"{way} "): v for name, v in values.items() if name.startswith(way)}
            for way in ways
        ]
        # Compiled code cannot refuse what only the values show: there the loss is NaN.
        both[0] = {name: numbers for name, numbers in both[0].items() if numbers}
        faults += compare.differences(*both)
    return report(faults)


def report(faults):
    """Prints faults, and returns the exit status."""
    print(*faults, f"{len(faults)} faults", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
