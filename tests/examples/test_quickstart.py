"""The quickstart runs every method by name, and ends in a table of all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from methods import METHODS

ROOT = Path(__file__).parent.parent.parent

# Where compiling takes its time: a head with a loss and a callback, and a sampler.
SOME = ["LDAM-DRW", "class-balanced sampling"]
ALL = ["all"]


def test_runs_methods_by_name(tmp_path):
    methods = ALL if keras.backend.backend() == "torch" else SOME
    options = ["--methods", *methods, "--seeds", "1", "--epochs", "2", "--out", tmp_path]
    command = [sys.executable, "-W", "error::UserWarning", "examples/quickstart.py", *options]
    wide = {**os.environ, "COLUMNS": "200"}  # or a long name takes two lines
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=wide)
    assert result.returncode == 0, result.stderr[-2000:]
    runs = json.loads(next(tmp_path.glob("*.json")).read_text())["runs"]
    assert len(runs) == (len(METHODS) if methods == ALL else len(SOME))
    for run in runs:
        assert run["method"] in result.stdout
        assert np.isfinite(run["training_loss"]), run["method"]
        assert len(run["class_accuracy"]) == 10
    for picture in ("class_accuracy.png", "loss_variation.png"):
        assert (tmp_path / picture).stat().st_size > 10_000
