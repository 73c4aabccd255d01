"""What importing loads, and which module may import which."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_lpl

PACKAGE = Path(keras_lpl.__file__).parent
FRAMEWORKS = ("tensorflow", "jax", "torch")
HEAVY = (*FRAMEWORKS, "tensorflow_datasets", "sklearn", "matplotlib", "PIL", "rich", "pandas")

# A room may import those before it, and itself.
ROOMS = [
    "core.typing",
    "core.checks",
    "core.numerics",
    "engines",
    "core",
    "methods",
    "functional",
    "losses",
    "perturbations",
    "layers",
    "testing",
    "metrics",
    "models",
    "callbacks",
]
# These know nothing of losses: they may import the first rooms, those named, and themselves.
INDEPENDENT = {
    "data": {"core.typing", "core.checks"},
    "networks": {"core.typing", "core.checks", "core.registry", "engines"},
    "plots": {"core.typing", "core.checks"},
    "metrics": {"core.typing", "core.checks", "core.registry", "core.outputs", "core.samples"},
}
# Files that may name a framework or ask for the backend: the engines, and the input pipeline.
NAMES_FRAMEWORK = {
    "engines/__init__.py",
    "engines/jax.py",
    "engines/tensorflow.py",
    "engines/torch.py",
    "engines/_tensorflow_look_ahead.py",
    "engines/_torch_ascent.py",
    "engines/_torch_constants.py",
    "engines/_torch_look_ahead.py",
    "data/tf_data.py",
    "data/counts.py",
    "data/sources.py",
    "data/_optional.py",
}


def python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def loaded_by(statement, **environment):
    """What `statement` loads that `import keras` has not."""
    return python(
        "import sys, keras; before = set(sys.modules)\n"
        f"{statement}\n"
        f"print(*[m for m in {HEAVY} if m in sys.modules and m not in before])",
        **environment,
    )


def test_importing_loads_nothing_that_keras_has_not():
    assert loaded_by("import keras_lpl") == []


@pytest.mark.on_one_backend
def test_that_test_can_fail(tmp_path):
    (tmp_path / "tensorflow_datasets.py").write_text("")
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"}
    assert loaded_by("import tensorflow_datasets", **environment) == ["tensorflow_datasets"]


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="TensorFlow is the backend")
def test_works_with_tensorflow_not_installed(tmp_path):
    code = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None  # Python's way to say that there is none
import keras, numpy as np, keras_lpl
x, y = np.ones((8, 4), "float32"), np.arange(8) % 3
inputs = keras.Input((4,))
model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
model.compile("sgd", loss=keras_lpl.LPLLoss([4, 3, 1], logit_adjustment=1.0),
              metrics=[keras_lpl.metrics.BalancedAccuracy()])
train = keras_lpl.data.ArrayDataset(x, y, 4, sampling="class_balanced", disturb_rate=0.1)
model.fit(train, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
model.save({str(tmp_path / "model.keras")!r})
restored = keras.saving.load_model({str(tmp_path / "model.keras")!r})
assert np.isfinite(restored.train_on_batch(x, y)[0])
print(keras_lpl.data.class_counts(y).sum(), train.epoch, sys.modules["tensorflow"])
"""
    assert python(code) == ["8", "2", "None"]


def modules():
    return [
        pytest.param(path, id=path.relative_to(PACKAGE).as_posix())
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def imports_of(path):
    """Absolute names imported anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name, named_rooms):
    """The room of a module's dotted name: `core.checks` where that is one of its own, or `core`."""
    parts = name.split(".")
    if parts[0] != "keras_lpl" or len(parts) == 1:
        return None
    whole = ".".join(parts[1:3])
    return whole if whole in named_rooms else parts[1]


def disallowed(mine, names):
    """Rooms that `mine` imports and must not."""
    if mine in INDEPENDENT:
        allowed = {mine, *INDEPENDENT[mine]}
    else:
        allowed = set(ROOMS[: ROOMS.index(mine) + 1])
    found = {room_of(name, allowed | set(ROOMS)) for name in names} - {None}
    return found - allowed


@pytest.mark.parametrize("path", modules())
def test_imports_go_one_way(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    mine = ".".join(parts[:2]) if ".".join(parts[:2]) in ROOMS else parts[0]
    assert mine in ROOMS or mine in INDEPENDENT, f"{mine} has no place in the order of rooms"
    names = [name for name in imports_of(path) if name not in ("keras_lpl", "keras_lpl.core")]
    assert not disallowed(mine, names), f"{mine} imports {sorted(disallowed(mine, names))}"


def test_that_test_can_fail_too():
    assert disallowed("core", ["keras_lpl.methods.ldam"]) == {"methods"}
    assert disallowed("engines", ["keras_lpl.core.samples"]) == {"core"}
    assert disallowed("metrics", ["keras_lpl.core.loss"]) == {"core"}
    assert disallowed("methods", ["keras_lpl.core.samples", "keras_lpl.engines"]) == set()


@pytest.mark.parametrize("path", modules())
def test_only_engines_know_the_backend(path):
    named = {name.split(".")[0] for name in imports_of(path)} & {*FRAMEWORKS, "tensorflow_datasets"}
    asks = re.search(r"backend\.backend\(|config\.backend\(|_is_torch|find_spec", path.read_text())
    if named or asks:
        assert path.relative_to(PACKAGE).as_posix() in NAMES_FRAMEWORK, (named, asks)


def test_public_names_are_documented():
    undocumented = []
    for name in keras_lpl.__all__:
        thing = getattr(keras_lpl, name)
        names = getattr(thing, "__all__", [])
        undocumented += [name] * (not thing.__doc__)
        undocumented += [f"{name}.{n}" for n in names if not getattr(thing, n).__doc__]
    assert undocumented == []
