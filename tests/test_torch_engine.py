"""What the engine of PyTorch spares, and that nothing is lost by it."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "torch":
    pytest.skip("of PyTorch alone", allow_module_level=True)

import torch

import keras_lpl
from keras_lpl import engines
from keras_lpl.engines import _torch_constants
from keras_lpl.engines import torch as engine


def test_a_read_only_array_becomes_a_tensor_once():
    like = torch.zeros(1, dtype=torch.float64)
    array = np.array([1.0, 2.0])
    assert engines.constant(array, like) is not engines.constant(array, like)
    array.flags.writeable = False
    tensor = engines.constant(array, like)
    assert engines.constant(array, like) is tensor
    assert engines.constant(array, like.float()).dtype == torch.float32
    np.testing.assert_array_equal(tensor, array)
    at = id(array)
    assert sum(key[0] == at for key in _torch_constants._constants) == 2
    del array
    assert not any(key[0] == at for key in _torch_constants._constants)


def test_a_loss_first_called_in_inference_mode_trains():
    loss = keras_lpl.LPLLoss([90, 10])
    logits = torch.zeros(2, 2, requires_grad=True)
    labels = torch.tensor([0, 1])
    with torch.inference_mode():
        before = float(loss(labels, logits.detach()))
    after = loss(labels, logits)
    after.backward()
    assert float(after.detach()) == pytest.approx(before)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("largest", [1.0, 1e17, 1e20, 9e29])
def test_large_rows_are_finite(largest):
    logits = torch.tensor([[largest, 0.0], [1.0, -largest]])
    found, is_finite = engines.finite_or_zero(logits)
    np.testing.assert_array_equal(found, logits)
    assert is_finite is None or bool(is_finite.all())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e30])
def test_rows_that_are_not_finite_become_zeros(bad):
    logits = torch.tensor([[1.0, 2.0], [bad, 0.0], [3.0, 4.0]], requires_grad=True)
    found, is_finite = engines.finite_or_zero(logits)
    np.testing.assert_array_equal(found.detach(), [[1, 2], [0, 0], [3, 4]])
    np.testing.assert_array_equal(is_finite, [True, False, True])
    found.sum().backward()
    np.testing.assert_array_equal(logits.grad, [[1, 1], [0, 0], [1, 1]])


def test_rows_of_weight_1_are_known_without_looking():
    samples = keras_lpl.read_output(torch.tensor([0, 1]), torch.zeros(2, 2))
    assert samples.weight.tolist() == [1, 1]
    assert _torch_constants.are_ones(samples.weight)
    assert _torch_constants.are_ones(samples.detached().weight)
    for others in (torch.ones(2), torch.ones(()).expand(2), torch.zeros(()).expand(2)):
        assert not _torch_constants.are_ones(others)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("classes", [3, 50])
def test_rows_of_weight_1_take_the_short_way_to_the_same_step(normalize, classes):
    rng = np.random.default_rng(0)
    labels = torch.tensor(rng.integers(0, 3, 20))
    logits = torch.tensor(rng.normal(0, [[1.0]] * 10 + [[40.0]] * 10, (20, classes)))
    rate = torch.tensor(rng.normal(size=classes))
    arguments = (logits, labels, labels, classes, rate, normalize)
    np.testing.assert_allclose(
        engine.step_of_groups(*arguments, engines.ones(20, logits)),
        engine.step_of_groups(*arguments, torch.ones(20, dtype=torch.float64)),
        rtol=1e-12,
    )


def test_one_row_of_each_group():
    group = torch.tensor([4, 1, 4, 0, 1])
    rows = engines.row_of_group(group, 6, 5)
    assert group[rows[group]].tolist() == group.tolist()
