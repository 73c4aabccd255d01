"""Runs the code of the README, of the documentation's pages, and of the docstrings.

And holds the pages to the package: every public name is in the API, every page in the navigation.
"""

import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTIONAL = ("tensorflow", "tensorflow_datasets", "sklearn", "matplotlib", "PIL", "pandas")
PAGES = [page for page in PAGES if FENCE.search(page.read_text())]


def pages():
    """All pages, and on which backends they run: the README on all.

    Those of methods run on one, as each method is tested on all of them, and so does the start
    page, whose program is that of the README.
    """
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        is_of_method = name.startswith("docs/methods/") and name != "docs/methods/lpl.md"
        on_one = is_of_method or name == "docs/index.md"
        if name == "README.md":
            marks = []
        else:
            marks = [pytest.mark.on_one_backend if on_one else pytest.mark.shared_out]
        yield pytest.param(page, id=name, marks=marks)


@pytest.mark.parametrize("page", list(pages()))
def test_page_runs(page):
    """All Python of a page, top to bottom, as one program."""
    code = "\n".join(FENCE.findall(page.read_text()))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, str(page), "exec"), {"__name__": "page"})


@pytest.mark.on_one_backend
def test_the_readme_needs_keras_and_a_backend_alone(tmp_path):
    (tmp_path / "readme.py").write_text("\n".join(FENCE.findall((ROOT / "README.md").read_text())))
    code = f"""
import runpy, sys
for name in {OPTIONAL}:
    sys.modules[name] = None  # Python's way to say that there is none
runpy.run_path({str(tmp_path / "readme.py")!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "'balanced_accuracy': " in result.stdout


def test_there_are_pages():
    names = [page.relative_to(ROOT).as_posix() for page in PAGES]
    assert "README.md" in names
    assert "docs/write-a-perturbation.md" in names
    assert "docs/methods/lpl.md" in names


def modules():
    """All modules; those of methods on one backend, but for LPL's."""
    for module in pkgutil.walk_packages(keras_lpl.__path__, "keras_lpl."):
        name = module.name
        on_one = name.startswith("keras_lpl.methods.") and ".lpl" not in name
        yield pytest.param(name, marks=[pytest.mark.on_one_backend] if on_one else [])


@pytest.mark.shared_out
@pytest.mark.parametrize("name", list(modules()))
def test_docstring_examples(name):
    if name.startswith("keras_lpl.engines."):
        framework = name.rsplit(".", 1)[1]
        if framework in ("jax", "tensorflow", "torch"):
            pytest.importorskip(framework)
    module = importlib.import_module(name)
    namespace = {"keras": keras, "keras_lpl": keras_lpl, "np": np}
    result = doctest.testmod(module, extraglobs=namespace, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def documented(api):
    """The identifiers that the API page shows."""
    return set(re.findall(r"^::: (\S+)$", api, re.MULTILINE))


def missing_from(api):
    """Public names that the API page leaves out, as `keras_lpl.package.name`."""
    shown = documented(api)
    modules = [getattr(keras_lpl, name) for name in keras_lpl.__all__]
    packages = [module for module in modules if hasattr(module, "__all__")]
    for package in [keras_lpl, *packages]:
        if package.__name__ in shown:  # as a whole
            continue
        for name in package.__all__:
            value = getattr(package, name)
            if value in packages:  # its own names are looked at
                continue
            names = {f"{package.__name__}.{name}"}
            if getattr(keras_lpl, name, None) is value:
                names.add(f"keras_lpl.{name}")
            if not names & shown:
                yield f"{package.__name__}.{name}"


def test_every_public_name_is_in_the_api():
    assert list(missing_from((DOCS / "api.md").read_text())) == []


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("keras_lpl.LPLLoss", "keras_lpl.losses.LPLLoss"),
        ("keras_lpl.layers.CosineDense", "keras_lpl.layers.CosineDense"),
        ("keras_lpl.data.load", "keras_lpl.data.load"),
        ("keras_lpl.functional", "keras_lpl.functional.num_steps"),
    ],
)
def test_that_test_can_fail(shown, missing):
    api = (DOCS / "api.md").read_text()
    assert missing in missing_from(api.replace(f"::: {shown}\n", ""))


def test_the_api_shows_nothing_that_is_not_there():
    for identifier in documented((DOCS / "api.md").read_text()):
        package, name = identifier.rsplit(".", 1)
        assert hasattr(importlib.import_module(package), name), identifier


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in DOCS.rglob("*.md"):
        path = re.escape(page.relative_to(DOCS).as_posix())
        assert re.search(rf"[-:] {path}\s", navigation), page


def test_every_method_is_in_the_overview_and_in_the_readme():
    overview, readme = (DOCS / "methods" / "index.md").read_text(), (ROOT / "README.md").read_text()
    for page in (DOCS / "methods").glob("*.md"):
        if page.name != "index.md":
            assert f"]({page.name})" in overview
            assert f"](docs/methods/{page.name})" in readme
