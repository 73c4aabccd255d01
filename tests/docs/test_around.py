"""What stands around the package: its metadata, the changelog, the citation, the workflow."""

import re
import tomllib
from pathlib import Path

import pytest

import keras_lpl

pytestmark = pytest.mark.on_one_backend

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"\]\(([^)]*)\)")


def read(name):
    return (ROOT / name).read_text()


def test_the_readme_in_the_metadata_has_no_relative_links():
    hook = tomllib.loads(read("pyproject.toml"))["tool"]["hatch"]["metadata"]["hooks"]
    readme = read("README.md")
    shown = readme
    for substitution in hook["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(substitution["pattern"], substitution["replacement"], shown)
    relative = [link for link in LINK.findall(readme) if not link.startswith("http")]
    assert relative
    assert all(link.startswith("http") for link in LINK.findall(shown))
    absolute = [link for link in LINK.findall(readme) if link.startswith("http")]
    assert LINK.findall(shown) == absolute


def test_versions_have_dates_and_agree():
    released = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", read("CHANGELOG.md"), re.M)
    released = [(version, date) for version, date in released if version != "Unreleased"]
    assert all(date for _, date in released)
    assert [date for _, date in released] == sorted((date for _, date in released), reverse=True)
    version, date = released[0]
    citation = read("CITATION.cff")
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation
    assert keras_lpl.__version__.split(".dev")[0] >= version


def test_the_workflow_runs_what_ci_runs():
    workflow = read(".github/workflows/tests.yml")
    for command in re.findall(r"^make \w+", read(".ci/run"), re.MULTILINE):
        assert f"run: {command} " in workflow
    assert "backend: [jax, tensorflow, torch]" in workflow
    assert "run: make docs" in workflow
    assert "run: make lint" in workflow
