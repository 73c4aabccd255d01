"""The environment of the tests, fixtures for all of them, and the markers."""

import gc
import os
import random
import shutil
import tempfile
import zlib

import pytest

# NumPy and the frameworks read these when they are loaded, which is later. One thread each, as
# several processes share the cores.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compiled code that runs a few times need not be fast. What XLA makes of the mathematics is the
# same; it is LLVM that does less. On JAX, XLA's older way to write loops takes it half the time.
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")
if "--xla_backend_optimization_level" not in XLA_FLAGS:
    XLA_FLAGS += " --xla_backend_optimization_level=0"
    if os.environ.get("KERAS_BACKEND") == "jax":
        XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = XLA_FLAGS.strip()


# What makes the suite quicker on the backends that compile. `--every` does without.
MARKERS = [
    "on_one_backend: what it looks at does not depend on the backend, or is looked at on every "
    "backend elsewhere. Run on torch, which has nothing to compile.",
    "shared_out: its cases are shared out between JAX and TensorFlow, and all run on torch. For "
    "cases that differ in what hardly depends on the backend, of code that both run.",
]


def pytest_addoption(parser):
    parser.addoption("--every", action="store_true", help="all tests on all backends")


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a process of pytest-xdist inherits it
        share_what_jax_compiles(config)


def share_what_jax_compiles(config):
    """Lets JAX keep what it compiles until the tests end: many train the same small model."""
    folder = tempfile.mkdtemp(prefix="keras-lpl-compiled-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


def pytest_collection_modifyitems(config, items):
    import keras  # not above: the process that only hands out tests does not need it

    backend = keras.config.backend()
    if backend == "torch" or config.getoption("--every"):
        return
    for item in items:
        if item.get_closest_marker("on_one_backend"):
            item.add_marker(pytest.mark.skip(reason="run on torch, which has nothing to compile"))
    elsewhere = {"jax": "tensorflow", "tensorflow": "jax"}[backend]
    for item in items:
        if item.get_closest_marker("shared_out") and backend_of(item.name) == elsewhere:
            item.add_marker(pytest.mark.skip(reason=f"run on torch and on {elsewhere}"))


def backend_of(name):
    """Which of JAX and TensorFlow runs a case of a test that is shared out, by its name."""
    return ("jax", "tensorflow")[zlib.crc32(name.encode()) % 2]


def pytest_collection_finish():
    """Lets the garbage collector leave the frameworks alone, of which nothing is ever freed.

    Tracing makes millions of objects, and it would look through all there are again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@pytest.fixture(autouse=True)
def same_weights():
    """Whichever tests run before, Keras draws the same seeds: of weights, dropout, shuffling."""
    random.seed(0)


@pytest.fixture
def rng():
    """A random generator that starts from the same seed in every test."""
    import numpy as np

    return np.random.default_rng(0)
