"""The examples of several devices: two of them train, and save one model."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_lpl

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
pytest.importorskip("rich", reason="the examples show their tables with it")

BACKEND = keras.config.backend()
EXAMPLE = Path(__file__).parents[2] / "examples" / f"distributed_{BACKEND}.py"
LAUNCH = {"torch": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}


def test_trains_and_saves_one_model(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}
    if BACKEND == "jax":
        environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
    file = tmp_path / "model.keras"
    result = subprocess.run(
        [sys.executable, *LAUNCH.get(BACKEND, []), EXAMPLE, "--epochs", "4", "--out", file],
        cwd=EXAMPLE.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (line,) = [line for line in result.stdout.splitlines() if "balanced accuracy" in line]
    assert line.startswith("2 "), line
    shown = float(line.split()[-1])
    assert shown > 0.4, "a guess has 0.1"
    model = keras.saving.load_model(file)
    assert model.confidence.shape == (10,)
    _, (x, y) = keras_lpl.data.load("digits", imbalance_factor=50)
    found = model.evaluate(x, y, verbose=0, return_dict=True)["balanced_accuracy"]
    assert abs(found - shown) < 0.01
