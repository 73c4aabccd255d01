"""Which backends run the examples."""

import pytest

# On every backend: what a newcomer runs first, in a selection where compiling takes its time. The
# other scripts use nothing that is not tested on all backends elsewhere. The study needs JAX.
EVERYWHERE = ("test_quickstart.py", "test_study.py")


@pytest.hookimpl(tryfirst=True)  # before the marker is looked at
def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/examples/" in item.path.as_posix() and item.path.name not in EVERYWHERE:
            item.add_marker("on_one_backend")
