"""The tables of the results page say what the committed result files say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.on_one_backend

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "results.md"
FILES = sorted((ROOT / "docs" / "results").rglob("*.json"))


def check(cwd=ROOT):
    command = [sys.executable, "examples/reproduce.py", "--pages", "--check"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_tables_are_those_of_the_result_files():
    result = check()
    assert result.returncode == 0, result.stderr


def test_that_test_can_fail(tmp_path):
    for folder in ("docs", "examples", "benchmarks"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".md", ".json", ".py", ".toml"):
                copy = tmp_path / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    page = tmp_path / "docs" / "results.md"
    row = next(line for line in page.read_text().splitlines() if line.startswith("| LDAM+LPL"))
    page.write_text(page.read_text().replace(row, row + " 0.1 |"))
    result = check(cwd=tmp_path)
    assert result.returncode == 1
    assert "results.md: the tables differ from the result files" in result.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_results_say_where_they_come_from(file):
    content = json.loads(file.read_text())
    environment = content["environment"]
    assert environment["versions"]["keras"]
    assert environment["backend"]
    assert environment["processor"]
    for run in content.get("runs", [] if {"rows", "lanes"} & content.keys() else [content]):
        assert 0 < run["balanced_error"] < 1
        assert isinstance(run["seed"], int)
