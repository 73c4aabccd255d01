"""The loop of Algorithm 2: the ways in which it is computed agree, and none is larger than it says.

What it computes is held to the oracle in `test_functional.py` and `test_perturb_logits.py`.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import functional, read_output
from keras_lpl.methods.lpl import ascent


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


# --- Algorithm 2 as it reads, and the faster ways --------------------------------------------


def samples_of(form, size=12, classes=5):
    """A batch with weights: class indices, soft labels, or several labels of either kind."""
    rng = np.random.default_rng(3)
    weight = rng.uniform(0.5, 2, size).astype("float32")
    weight[::5] = 0
    if form.startswith("several"):
        labels = rng.integers(0, 2, (size, 3))
        if "soft" in form:
            labels = (0.8 * labels + 0.1).astype("float32")
        logits = (2 * rng.normal(size=(size, 3))).astype("float32")
        return read_output(labels, logits, weight, multi_label=True).detached()
    labels = rng.integers(0, classes, size)
    logits = (2 * rng.normal(size=(size, classes))).astype("float32")
    if form == "soft":
        one_hot = np.eye(classes, dtype="float32")[labels]
        labels = 0.7 * one_hot + 0.3 * one_hot[::-1]
    return read_output(labels, logits, weight).detached()


FORMS = pytest.mark.parametrize("form", ["indices", "soft", "several", "several soft"])
MORE_CLASSES = pytest.mark.parametrize("classes", [5, 30])  # fewer than rows, and more
STEP_KINDS = pytest.mark.parametrize("normalize_gradient", [True, False], ids=["unit", "printed"])


def direction_of(samples):
    shape = samples.shape_by_class
    return np.where(np.arange(np.prod(shape)) % 3 == 1, -1.0, 1.0).reshape(shape).astype("float32")


def assert_same_shift(actual, expected):
    actual, expected = ops.convert_to_numpy(actual), ops.convert_to_numpy(expected)
    assert np.abs(expected).max() > 1e-2, "a test of nothing: no row moves"
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@FORMS
@MORE_CLASSES
@STEP_KINDS
@pytest.mark.shared_out
def test_the_paper_s_steps_are_algorithm_2(form, classes, normalize_gradient):
    samples = samples_of(form, classes=classes)
    direction = direction_of(samples)
    steps = (np.arange(direction.size) % 4).reshape(direction.shape).astype("int32")
    arguments = samples, ops.convert_to_tensor(direction)
    expected = ascent.algorithm_2(*arguments, steps, 0.2, normalize_gradient)
    steps = ops.convert_to_tensor(steps)
    assert_same_shift(ascent.steps_of_size(*arguments, steps, 0.2, normalize_gradient), expected)


@FORMS
@MORE_CLASSES
@STEP_KINDS
@pytest.mark.shared_out
@pytest.mark.parametrize("num_steps", [1, 3])
def test_equal_steps_are_algorithm_2(form, classes, normalize_gradient, num_steps):
    """Each class takes its own length of step; a bound of 0 leaves a class alone."""
    samples = samples_of(form, classes=classes)
    direction = direction_of(samples)
    bound = (0.5 * (np.arange(direction.size) % 3)).reshape(direction.shape).astype("float32")
    arguments = samples, ops.convert_to_tensor(direction)
    steps = np.full(direction.shape, num_steps)
    expected = ascent.algorithm_2(*arguments, steps, bound / num_steps, normalize_gradient)
    bound = ops.convert_to_tensor(bound)
    assert_same_shift(
        ascent.equal_steps(*arguments, bound, num_steps, normalize_gradient), expected
    )


def test_many_equal_steps_approach_a_limit_within_the_bound():
    """|delta_c| <= eps_c for any number of steps, and halving the steps changes ever less."""
    samples = samples_of("indices")
    direction = ops.convert_to_tensor(direction_of(samples))
    bound = ops.ones_like(direction)
    shifts = [
        ops.convert_to_numpy(ascent.equal_steps(samples, direction, bound, k))
        for k in (1, 4, 64, 128)
    ]
    for shift in shifts:
        assert np.all(np.linalg.norm(shift, axis=1) <= 1 + 1e-5)
    changes = [np.abs(one - other).max() for one, other in itertools.pairwise(shifts)]
    assert changes[2] < changes[0]
    assert changes[2] < 0.02


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("is_right", [True, False])
def test_large_classes_move_by_their_bound(is_right, num_steps):
    """Sums over many rows neither overflow nor underflow, surely wrong or surely right."""
    labels = np.repeat(np.arange(3), (2000, 500, 1)).astype("int32")
    logits = np.zeros((len(labels), 3), "float32")
    towards = labels if is_right else (labels + 1) % 3
    logits[np.arange(len(labels)), towards] = 30.0
    samples = read_output(labels, logits)
    bound = np.array([0.5, 0.2, 1.0], "float32")
    shift = ascent.equal_steps(samples, np.array([1.0, -1.0, 1.0]), bound, num_steps)
    length = np.linalg.norm(ops.convert_to_numpy(shift), axis=-1)
    np.testing.assert_allclose(length, bound[labels], rtol=1e-3)
