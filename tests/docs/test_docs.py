"""Runs the code of the README, of the documentation's pages, and of the docstrings."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in PAGES if FENCE.search(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page):
    """All Python of a page, top to bottom, as one program."""
    code = "\n".join(FENCE.findall(page.read_text()))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, str(page), "exec"), {"__name__": "page"})


def test_there_are_pages():
    names = [page.name for page in PAGES]
    assert "README.md" in names
    assert "write-a-perturbation.md" in names


def modules():
    for module in pkgutil.walk_packages(keras_lpl.__path__, "keras_lpl."):
        yield module.name


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    module = importlib.import_module(name)
    namespace = {"keras": keras, "keras_lpl": keras_lpl, "np": np}
    result = doctest.testmod(module, extraglobs=namespace, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
