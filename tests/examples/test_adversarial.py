"""The example of robust accuracy runs, and an attack lowers the accuracy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.on_one_backend


def test_runs(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come from it")
    options = ["--seeds", "1", "--epochs", "1", "--out", tmp_path]
    command = [sys.executable, "examples/adversarial.py", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    (file,) = tmp_path.glob("*.json")
    runs = json.loads(file.read_text())["rows"]
    assert [run["method"] for run in runs] == [
        "plain",
        "adversarial features",
        "adversarial inputs",
    ]
    for run in runs:
        assert f"| {run['method']} |" in result.stdout
        assert run["robust_accuracy"] < run["accuracy"]
