"""Training on two replicas is training on one device: weights, statistics and losses.

The oracle is the same batches, whole, on one device. Replicas need processes of their own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl
from keras_lpl import engines
from tests.devices import training

BACKEND = keras.config.backend()
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def on_replicas(tmp_path_factory):
    """What each process found, by name."""
    folder = tmp_path_factory.mktemp("replicas")
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}
    if BACKEND == "jax":
        environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
    processes, files = [], []
    for rank in ("0", "1") if BACKEND == "torch" else ("",):
        files.append(folder / f"found{rank}.npz")
        command = [sys.executable, "-m", "tests.devices.training", str(files[-1]), *rank]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment))
    try:
        for process in processes:
            assert process.wait(timeout=1200) == 0
    finally:
        for process in processes:
            process.kill()
    return [dict(np.load(file)) for file in files]


def test_replicas_train_as_one_device(on_replicas):
    expected = training.train_on_one()
    assert len(expected) > 60
    for found in on_replicas:
        for name, value in expected.items():
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6 * scale, err_msg=name)


def test_replicas_keep_the_same_statistics(on_replicas):
    first = on_replicas[0]
    for other in on_replicas[1:]:
        for name in first.keys() - {"rows", "gradient", "spoilt"}:
            np.testing.assert_array_equal(other[name], first[name], err_msg=name)


@pytest.mark.skipif(BACKEND == "jax", reason="arrays are global on JAX")
def test_without_reduction_each_replica_has_the_losses_of_its_rows(on_replicas):
    loss, labels, logits = training.rows_without_reduction()
    expected = keras.ops.convert_to_numpy(loss(labels, logits))
    rows = np.concatenate([found["rows"] for found in on_replicas])
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    gradient = engines.value_and_gradient(lambda x: keras.ops.sum(loss(labels, x)), logits)[1]
    found = np.concatenate([found["gradient"] for found in on_replicas])
    np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere all replicas run one function")
def test_a_row_that_is_not_finite_is_one_for_all(on_replicas):
    loss, labels, logits = training.rows_without_reduction()
    logits[0, 0] = np.nan
    expected = keras.ops.convert_to_numpy(loss(labels, logits))
    assert np.isnan(expected).tolist() == [True] + [False] * 8
    found = np.concatenate([found["spoilt"] for found in on_replicas])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere all replicas run one function")
def test_weights_of_one_process_alone_are_refused_by_all(on_replicas):
    for found in on_replicas:
        assert re.search(
            r"on all of them or on none.*Received: 8, 7 numbers", str(found["refused"])
        )


def test_the_parts_alone_train_otherwise():
    """The tests above can fail: a class's push and its statistics are not those of half a batch."""
    loss, labels, logits = training.rows_without_reduction()
    whole = keras.ops.convert_to_numpy(loss(labels, logits))
    parts = [loss(labels[part], logits[part]) for part in (slice(4), slice(4, None))]
    parts = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
    assert np.abs(parts - whole).max() > 1e-3


def test_one_device_does_nothing_more(monkeypatch):
    def refuse(*_):
        raise AssertionError("gathered on one device")

    monkeypatch.setattr(engines, "gather_rows", refuse)
    loss, labels, logits = training.rows_without_reduction()
    loss(labels, logits)
    if BACKEND == "torch":
        from torch.utils._python_dispatch import TorchDispatchMode

        class Refuse(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                raise AssertionError(f"{func} is an operation")

        with Refuse():
            assert engines.num_replicas() == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_a_parameter_server_is_refused(monkeypatch):
    import tensorflow as tf

    class Asynchronous(tf.distribute.ParameterServerStrategy):
        def __init__(self):
            pass

    monkeypatch.setattr(tf.distribute, "has_strategy", lambda: True)
    monkeypatch.setattr(tf.distribute, "get_strategy", Asynchronous)
    with pytest.raises(ValueError, match=r"MirroredStrategy.*Received: .*Asynchronous"):
        keras_lpl.LPLLoss()(np.array([0]), np.zeros((1, 2), "float32"))


def test_a_model_that_looks_ahead_is_refused(monkeypatch):
    inputs = keras.Input((2,))
    x, y = np.eye(2, dtype="float32"), np.arange(2)
    model = keras_lpl.models.MetaModel(inputs, keras.layers.Dense(2)(inputs), meta_data=(x, y))
    model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    monkeypatch.setattr(engines, "num_replicas", lambda: 2)
    with pytest.raises(ValueError, match=r"one device.*Received: 2 replicas"):
        model.train_on_batch(x, y)
