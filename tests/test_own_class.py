"""What the engines compute of each row's own class: its cross-entropy and its probability."""

import numpy as np
import pytest
from keras import ops

from keras_lpl import engines
from tests import reference

LABELS = np.array([0, 1, 2, 3, 0, 3], "int32")
SIZES = [1.0, 20.0, 1e3, 1e8, 1e28]


def logits_of(size):
    """Rows of which some are sure of their class, and some of another."""
    logits = size * np.random.default_rng(0).normal(size=(len(LABELS), 4))
    logits[0], logits[1] = [size, 0, 0, 0], [size, 0, 0, 0]
    logits[2] = 0
    return logits.astype("float32")


@pytest.mark.parametrize("size", SIZES)
def test_crossentropy_and_its_gradient(size):
    logits = logits_of(size)

    def total(x):
        return ops.sum(engines.crossentropy_of_indices(ops.convert_to_tensor(LABELS), x))

    losses = reference.softmax_crossentropy(LABELS, logits)
    gradient = reference.softmax_crossentropy_gradient(LABELS, logits) * len(LABELS)
    for found in (
        engines.value_and_gradient(total, logits),
        engines.compiled_value_and_gradient(total)(logits),
    ):
        np.testing.assert_allclose(found[0], losses.sum(), rtol=1e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-5, atol=1e-7)
    each = engines.crossentropy_of_indices(*map(ops.convert_to_tensor, (LABELS, logits)))
    np.testing.assert_allclose(ops.convert_to_numpy(each), losses, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_own_probability(size):
    logits = logits_of(size)
    rows = zip(logits.astype("float64"), LABELS, strict=True)
    expected = [reference.softmax(row)[label] for row, label in rows]

    def own(x):
        return engines.own_probability(x, ops.convert_to_tensor(LABELS))

    for of in (own, engines.compiled(own)):
        found = ops.convert_to_numpy(of(ops.convert_to_tensor(logits)))
        assert found.shape == (len(LABELS),)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-37)
