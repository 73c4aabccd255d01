"""TensorFlow's start-up lines stay out of the examples, and errors do not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import quiet

import pytest

pytestmark = pytest.mark.on_one_backend

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_loads_tensorflow_without_its_lines():
    pytest.importorskip("tensorflow")
    code = "import quiet, keras; keras.utils.set_random_seed(0); import tensorflow; print('loaded')"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True
    )
    assert result.stdout == "loaded\n"
    assert result.stderr == ""


def fail_with_lines():
    with quiet.without_chatter():
        os.write(2, b"I0000 00:00:1 port.cc:153] on\nE0000 00:00:1 x.cc:1] broken\nanother\n")
        raise RuntimeError("as ever")


def test_shows_what_is_no_chatter(capfd):
    with pytest.raises(RuntimeError, match="as ever"):
        fail_with_lines()
    assert capfd.readouterr().err == "E0000 00:00:1 x.cc:1] broken\nanother\n"


def test_every_program_is_quiet():
    """Before Keras, in each script that can be run."""
    for script in EXAMPLES.glob("*.py"):
        text = script.read_text()
        if "__main__" in text and re.search(r"^import (keras|keras_lpl)$", text, re.MULTILINE):
            first = re.search(
                r"^(import|from) (quiet|keras|keras_lpl|common|methods)\b", text, re.M
            )
            assert first[2] == "quiet", script.name
