"""The example of NumPy arrays: it runs where there is neither TensorFlow nor a data library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
pytest.importorskip("rich", reason="the examples show their tables with it")
pytestmark = pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="TensorFlow is the backend"
)


def run(*arguments, out):
    """Runs the script with all that it shall not need taken away. Returns its results."""
    code = """
import runpy, sys
for name in ("tensorflow", "tensorflow_datasets", "sklearn", "PIL", "matplotlib"):
    sys.modules[name] = None  # Python's way to say that there is none
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    command = [sys.executable, "-c", code, "examples/numpy_only.py", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")])}
    result = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (file,) = out.glob("*.json")
    return json.loads(file.read_text())["runs"], result.stdout


def test_runs_without_tensorflow(tmp_path):
    runs, shown = run("--epochs", 5, "--seeds", 1, out=tmp_path)
    assert "by class: [500, 323, 209, 135, 87, 56, 36, 23, 15, 10]" in shown
    errors = {run["method"]: run["balanced_error"] for run in runs}
    assert list(errors) == ["cross-entropy", "balanced batches", "LPL", "LA+LPL"]
    assert all(method in shown for method in errors)
    others = [error for method, error in errors.items() if method != "cross-entropy"]
    assert max(others) < errors["cross-entropy"] < 0.7


def test_runs_on_a_file(tmp_path):
    rng = np.random.default_rng(0)
    y_train, y_test = np.arange(120) % 3, np.arange(30) % 3
    parts = {f"y_{part}": y for part, y in (("train", y_train), ("test", y_test))}
    for part, y in (("train", y_train), ("test", y_test)):
        parts[f"x_{part}"] = (rng.normal(size=(len(y), 4, 4, 1)) + y[:, None, None, None]).astype(
            "float32"
        )
    np.savez(tmp_path / "own.npz", **parts)
    arguments = ["--data", tmp_path / "own.npz", "--imbalance", 4, "--epochs", 1, "--seeds", 1]
    runs, shown = run(*arguments, out=tmp_path)
    assert "by class: [40, 20, 10]" in shown
    assert all(len(run["class_accuracy"]) == 3 for run in runs)
