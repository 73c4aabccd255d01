"""Numbers of one backend against those of another, or of compiled code against eager."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.fuzz.cases import Setting
from tests.fuzz.run import run_setting

VALUES = Path(__file__).with_name("values.json")

# The cases of the test: as many settings, and as many batches of each.
SETTINGS, DRAWS = 100, 3
RTOL, ATOL = 1e-3, 1e-5
ROUNDS_AWAY = 1e-7  # beside 1, in float32
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def of_test(numbers: Iterable[int] = range(SETTINGS)) -> tuple[list[str], dict[str, list[float]]]:
    """Faults and values of the cases that the test looks at, run eagerly."""
    faults, values = [], {}
    for number in numbers:
        for name, fault, numbers in run_setting(number, DRAWS):
            values[name] = numbers
            if fault:
                faults.append(fault)
    return faults, values


def as_json(values: dict[str, list[float]]) -> str:
    """One case a line."""
    rows = [f'"{name}": {json.dumps([float(f"{x:.6g}") for x in v])}' for name, v in values.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def are_alike(name: str, numbers: list[float], expected: list[float]) -> bool:
    """True if two results of the case of that name are one but for rounding."""
    seed, number, draw = map(int, name.rsplit(" ", 1)[-1].split("-"))
    setting = Setting(number, seed)
    if setting.name == "average-top-k" and np.abs(setting.batch(draw).logits).max() < ROUNDS_AWAY:
        # All losses are equal but for rounding, and rounding says which ones are the largest.
        numbers, expected = numbers[:1], expected[:1]
    # A gradient is rounded to the dtype of its logits.
    rtol = max(RTOL, 4 * ROUNDING.get(setting.logits_dtype, 0))
    return np.allclose(numbers, expected, rtol=rtol, atol=ATOL)


def differences(first: dict, *others: dict) -> list[str]:
    """Cases whose numbers differ between files, as far as they have them in common."""
    found = []
    for name, expected in first.items():
        for other in others:
            numbers = other.get(name)
            if numbers is None or not numbers or not expected:
                if numbers is not None and bool(numbers) != bool(expected):
                    found.append(f"{name}: refused by one alone: {expected}, {numbers}")
                continue
            if not are_alike(name, numbers, expected):
                found.append(f"{name}: {expected} and {numbers}")
    return found
