"""Everything public is annotated, so that a user's editor and type checker know it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_lpl"
PUBLIC_DUNDERS = ("__init__", "__call__", "__getitem__", "__len__", "__iter__")


def public_functions(node, prefix=""):
    """Functions and methods without a leading underscore, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            if not child.name.startswith("_") or child.name in PUBLIC_DUNDERS:
                yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child, f"{child.name}.")


def is_annotated(function):
    a = function.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    named = [arg for arg in arguments if arg is not None and arg.arg not in ("self", "cls")]
    return function.returns is not None and all(arg.annotation is not None for arg in named)


@pytest.mark.on_one_backend
def test_all_that_is_public_is_annotated():
    functions = [
        (f"{path.relative_to(PACKAGE)}: {name}", function)
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, function in public_functions(ast.parse(path.read_text()))
    ]
    assert len(functions) > 200
    assert [name for name, function in functions if not is_annotated(function)] == []
