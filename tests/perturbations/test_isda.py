"""ISDA's quadratic form, in both ways in which it is computed, against a loop over everything."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import read_output
from keras_lpl.methods.isda import spread as isda
from tests.gradients import value_and_gradient

CLASSES, FEATURES = 5, 3


def problem(seed=0):
    """Labels in which class 2 does not occur, a kernel, and covariances."""
    rng = np.random.default_rng(seed)
    labels = np.array([4, 0, 1, 1, 4, 3, 0])
    kernel = rng.normal(size=(FEATURES, CLASSES))
    root = rng.normal(size=(CLASSES, FEATURES, FEATURES))
    covariance = root @ root.transpose(0, 2, 1)
    upstream = rng.normal(size=(len(labels), CLASSES))
    return labels, kernel, covariance, upstream


def naive(share, kernel, covariance, upstream):
    """Spread, and the gradient of `sum(upstream * spread)` by the kernel, sample by sample."""
    spread, gradient = np.zeros_like(upstream), np.zeros_like(kernel)
    for i in range(len(share)):
        for y in range(CLASSES):
            for c in range(CLASSES):
                difference = kernel[:, c] - kernel[:, y]
                moved = covariance[y] @ difference
                spread[i, c] += share[i, y] * (difference @ moved)
                gradient[:, c] += 2 * upstream[i, c] * share[i, y] * moved
                gradient[:, y] -= 2 * upstream[i, c] * share[i, y] * moved
    return spread, gradient


@pytest.mark.parametrize("form", ["indices", "soft"])
@pytest.mark.parametrize("way", ["at once", "one by one", "one by one, nothing kept"])
def test_spread_and_its_gradient(monkeypatch, way, form):
    labels, kernel, covariance, upstream = problem()
    share = np.eye(CLASSES)[labels]
    if form == "soft":
        share = 0.8 * share + 0.2 * share[::-1]
        labels = share.astype("float32")
    else:
        labels = labels.astype("int32")
    if way != "at once":
        monkeypatch.setattr(isda, "MANY_NUMBERS", 0)
    if way == "one by one, nothing kept":  # as where there are more classes than features
        monkeypatch.setattr(isda, "max", lambda *sizes: 0, raising=False)
    expected, expected_gradient = naive(share, kernel, covariance, upstream)
    count = np.arange(1, CLASSES + 1, dtype="float32")[:, None]
    scatter = (covariance * count[:, :, None]).astype("float32")
    # As a variable, as `RunningMoments` has it, of which single rows are read.
    scatter = keras.Variable(scatter, trainable=False) if way != "at once" else scatter
    samples = read_output(labels, np.zeros((len(labels), CLASSES), "float32"))
    factor = ops.convert_to_tensor(upstream.astype("float32"))

    def weighted(kernel):
        spread = isda.spread_of_full(samples, kernel, scatter, count)
        total = ops.sum(spread * factor)
        return total, ops.stop_gradient(spread)

    (_, spread), gradient = value_and_gradient(weighted, kernel.astype("float32"), has_aux=True)
    np.testing.assert_allclose(spread, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


def test_no_array_of_all_classes_beside_all(monkeypatch):
    """Which would be 10 GB at 50,000 classes."""
    labels, classes = np.array([7, 2, 7], "int32"), 40
    kernel = np.random.default_rng(0).normal(size=(FEATURES, classes))
    kernel = ops.convert_to_tensor(kernel.astype("float32"))
    scatter = np.tile(np.eye(FEATURES, dtype="float32"), (classes, 1, 1))
    count = np.ones((classes, 1), "float32")
    samples = read_output(labels, np.zeros((3, classes), "float32"))
    expected = isda.spread_of_full(samples, kernel, scatter, count)
    monkeypatch.setattr(isda, "MANY_NUMBERS", 0)
    shapes, take_rows = [], isda.engines.take_rows

    def watched(x, rows):
        taken = take_rows(x, rows)
        shapes.append(tuple(taken.shape))
        return taken

    monkeypatch.setattr(isda.engines, "take_rows", watched)
    spread = isda.spread_of_full(samples, kernel, keras.Variable(scatter, trainable=False), count)
    np.testing.assert_allclose(spread, expected, rtol=1e-5)
    assert shapes
    assert max(np.prod(shape) for shape in shapes) == 3 * classes
