"""Which backends run the examples."""

import keras
import pytest

# On every backend: what a newcomer runs first, in a selection where compiling takes its time. The
# other scripts use nothing that is not tested on all backends elsewhere.
EVERYWHERE = ("test_quickstart.py",)


def pytest_collection_modifyitems(items):
    if keras.backend.backend() == "torch":  # has nothing to compile
        return
    skip = pytest.mark.skip(reason="run on torch, which has nothing to compile")
    for item in items:
        if "tests/examples/" in item.path.as_posix() and item.path.name not in EVERYWHERE:
            item.add_marker(skip)
