"""Fixtures every test may ask for."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A random generator that starts from the same seed in every test."""
    return np.random.default_rng(0)
