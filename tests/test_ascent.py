"""The loop of Algorithm 2: the ways in which it is computed agree, and none is larger than it says.

What it computes is held to the oracle in `test_functional.py` and `test_perturb_logits.py`.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import functional


def problem(batch, classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, min(classes, batch // 2), batch).astype("int32")
    logits = (2 * rng.normal(size=(batch, classes))).astype("float32")
    direction = np.where(np.arange(classes) % 3, 1.0, -1.0).astype("float32")
    steps = rng.integers(1, 6, classes).astype("int32")
    return labels, logits, direction, steps


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch's loop alone has both ways")
@pytest.mark.parametrize("normalize_gradient", [True, False])
def test_matrices_and_segments_agree(monkeypatch, normalize_gradient):
    from keras_lpl.engines import _torch_ascent

    arguments = (*problem(40, 7), 0.3, normalize_gradient)
    results = []
    for most_rows in (0, 100):
        monkeypatch.setattr(_torch_ascent, "_MOST_ROWS_OF_MATRIX", most_rows)
        results.append(ops.convert_to_numpy(functional.perturb_logits(*arguments)))
    assert np.abs(results[0] - arguments[1]).max() > 0.1
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalize_gradient", [True, False])
def test_steps_of_any_length_are_finite(normalize_gradient):
    arguments = (*problem(40, 7), 500.0, normalize_gradient)
    assert np.isfinite(ops.convert_to_numpy(functional.perturb_logits(*arguments))).all()


@pytest.mark.skipif(keras.config.backend() == "torch", reason="PyTorch's loop has its own sums")
def test_no_array_grows_with_the_square_of_the_classes(monkeypatch):
    sums, real = [], ops.segment_sum

    def segment_sum(data, segment_ids, num_segments=None, sorted=False):
        sums.append((tuple(data.shape), num_segments))
        return real(data, segment_ids, num_segments=num_segments, sorted=sorted)

    from keras_lpl.engines import _compiled_ascent

    monkeypatch.setattr(_compiled_ascent.ops, "segment_sum", segment_sum)
    batch, classes = 600, 900
    functional.perturb_logits(*problem(batch, classes), 0.3)
    of_rows = [(shape, number) for shape, number in sums if len(shape) == 2]
    assert of_rows  # such a batch is too large for a matrix of its rows
    assert all(number <= shape[0] for shape, number in of_rows)
