"""Fixtures every test may ask for, the marker `on_one_backend`, and parts of the suite."""

import os
import random

import keras
import numpy as np
import pytest


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "on_one_backend: what it looks at does not depend on the backend, or is looked at on every "
        "backend elsewhere. Run on torch, which has nothing to compile.",
    )


def pytest_collection_modifyitems(config, items):
    keep_part(config, items, os.environ.get("KERAS_LPL_TEST_PART", "0/1"))
    if keras.backend.backend() == "torch":
        return
    skip = pytest.mark.skip(reason="run on torch, which has nothing to compile")
    for item in items:
        if item.get_closest_marker("on_one_backend"):
            item.add_marker(skip)


def keep_part(config, items, part):
    """Of `1/3`, every third file is kept, from the second one on."""
    part, parts = (int(number) for number in part.split("/"))
    files = sorted({item.path for item in items})
    kept = set(files[part::parts])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in kept])
    items[:] = [item for item in items if item.path in kept]


@pytest.fixture(autouse=True)
def same_weights():
    """Whichever tests run before, Keras draws the same seeds: of weights, dropout, shuffling."""
    random.seed(0)


@pytest.fixture
def rng():
    """A random generator that starts from the same seed in every test."""
    return np.random.default_rng(0)
