"""What mkdocs needs: docstrings whose doctests are shown as code, and pages without the network."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.on_one_backend

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted((ROOT / "keras_lpl").rglob("*.py"))
FENCE = re.compile(r"^```pycon\n.*?^```$", re.MULTILINE | re.DOTALL)


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fenced = load("doctests").fenced


def test_doctests_become_code():
    shown = fenced(
        "A loss.\n\nExample: the rare class is pushed.\n\n"
        ">>> loss = f(\n...     1)\n>>> print(loss)  # doctest: +SKIP\n2\n\n>>> g()\n3\n\nMore."
    )
    assert shown == (
        "A loss.\n\n**Example**\n\nThe rare class is pushed.\n\n"
        "```pycon\n>>> loss = f(\n...     1)\n>>> print(loss)\n2\n\n>>> g()\n3\n```\n\nMore."
    )


def test_text_without_doctests_stays():
    text = "A loss.\n\nArgs:\n    x: `a >>> b`.\n"
    assert fenced(text) == text


def test_lists_stand_apart():
    text = "Args:\n    x: One of\n        - a list,\n          or more;\n        - a set.\n    y: -"
    assert fenced(text) == text.replace("One of\n", "One of\n\n")


def docstrings():
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield inspect.cleandoc(ast.get_docstring(node) or "")


def test_no_doctest_is_left_to_be_read_as_a_quote():
    with_doctests = [text for text in docstrings() if ">>> " in text]
    assert len(with_doctests) > 50
    for docstring in with_doctests:
        shown = fenced(docstring)
        outside = FENCE.sub("", shown)
        assert not re.search(r"^(>>>|Examples?:)", outside, re.MULTILINE), docstring
        assert shown.count(">>> ") == docstring.count(">>> ")


def test_the_site_loads_nothing_from_elsewhere():
    """`docs/hooks/site.py` looks at each page; this at what pages share."""
    configuration = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in configuration
    shared = (ROOT / "docs" / "assets").rglob("*.css")
    for style in shared:
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style
        for name in re.findall(r"url\(([^)]+)\)", style.read_text()):
            assert (style.parent / name.strip("'\"")).exists(), name
