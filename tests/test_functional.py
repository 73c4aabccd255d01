"""`keras_lpl.functional` against the naive float64 oracle, and the oracle against its equations."""

import numpy as np
import pytest
from keras import ops

from keras_lpl import engines, functional
from tests import gradients, reference
from tests.lpl_problems import (
    CLASS_COUNTS,
    DIRECTION,
    HARD,
    SOFT,
    STEPS,
    assert_close,
    direction_and_steps,
    make_problem,
    mean_loss,
    numpy,
    perturb,
    run,
    step_kinds,
)

# --- The oracle itself ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "weights", "weighted mixup"])
def test_oracle_gradient_is_the_derivative_of_its_loss(name):
    """With delta held constant, as Algorithm 2 has it."""
    problem = make_problem(name)
    logits = problem.logits.astype("float64")
    weight = 1.0 if problem.sample_weight is None else problem.sample_weight
    arguments = DIRECTION, STEPS, 0.1, True, problem.sample_weight
    delta = reference.perturb_logits(problem.labels, logits, *arguments) - logits

    def constant_delta(x):
        return np.mean(weight * reference.softmax_crossentropy(problem.labels, x + delta))

    analytic = reference.lpl_gradient(problem.labels, logits, *arguments)
    assert_close(reference.finite_difference_gradient(constant_delta, logits), analytic, 1e-8)
    loss = reference.lpl_loss(problem.labels, logits, *arguments)
    assert_close(constant_delta(logits), np.mean(weight * loss), 1e-14)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(("normalize_gradient", "step"), [(False, 0.05), (True, 0.1 * 0.5**0.5)])
def test_one_step_by_hand(direction, normalize_gradient, step):
    """At equal logits p = (1/2, 1/2), so g = (-1/2, 1/2), of length sqrt(1/2)."""
    labels, logits = np.zeros(12, "int32"), np.zeros((12, 2), "float32")
    expected = np.broadcast_to(direction * np.array([-step, step]), (12, 2))
    arguments = labels, logits, np.array([direction, -1]), np.array([1, 1])
    options = {"normalize_gradient": normalize_gradient}
    assert_close(reference.perturb_logits(*arguments, 0.1, **options), expected, 1e-12)
    assert_close(perturb(*arguments, **options), expected, 1e-6)


def test_oracle_logit_adjustment_by_hand():
    """Equal logits and counts 3:1 leave the priors: -log 3/4 and -log 1/4."""
    loss = reference.logit_adjustment_loss(np.array([0, 1]), np.zeros((2, 2)), [30, 10])
    assert_close(loss, -np.log([0.75, 0.25]), 1e-14)
    loss = reference.logit_adjustment_loss(np.array([0, 1]), np.zeros((2, 2)), [30, 10], tau=2)
    assert_close(loss, -np.log([0.9, 0.1]), 1e-14)


# --- Agreement with the oracle --------------------------------------------------------------


@pytest.mark.parametrize("name", HARD + SOFT)
@pytest.mark.parametrize("split", ["confidence", "frequency"])
@step_kinds
def test_loss_perturbation_and_gradient_agree(name, split, normalize_gradient):
    problem = make_problem(name)
    labels, logits, weight = problem.labels, problem.logits, problem.sample_weight

    direction, steps = direction_and_steps(reference, problem, logits, split)
    outcome = run(labels, logits, direction, steps, weight, normalize_gradient)

    arguments = labels, logits, direction, steps, 0.1, normalize_gradient, weight
    delta = reference.perturb_logits(*arguments) - logits.astype("float64")
    loss = reference.lpl_loss(*arguments)
    assert np.max(np.abs(delta)) > 1e-3, "a test of nothing: the oracle does not move"
    assert_close(outcome.perturbed - logits, delta)
    assert_close(outcome.loss, loss)
    assert_close(outcome.mean_loss, np.mean(loss if weight is None else loss * weight))
    assert_close(outcome.gradient, reference.lpl_gradient(*arguments))


@pytest.mark.parametrize("name", ["plain", "mixup"])
def test_gradient_by_finite_differences(name):
    """Confidence, split, bound, steps and delta are all found from the logits, and constants."""
    problem = make_problem(name)
    labels, logits = problem.labels, problem.logits

    def loss_of_everything(x):
        direction, steps = direction_and_steps(functional, problem, x, "confidence")
        return mean_loss(x, labels, direction, steps, None, True)

    direction, steps = direction_and_steps(reference, problem, logits, "confidence")
    (_, outcome), gradient = gradients.value_and_gradient(loss_of_everything, logits, has_aux=True)
    delta = outcome.perturbed - logits

    def constant_delta(x):
        return np.mean(reference.softmax_crossentropy(labels, x + delta))

    def moving_delta(x):
        return np.mean(reference.lpl_loss(labels, x, direction, steps, 0.1))

    assert_close(gradient, reference.finite_difference_gradient(constant_delta, logits))
    through_the_loop = reference.finite_difference_gradient(moving_delta, logits)
    with pytest.raises(AssertionError):  # another gradient, and the check can tell
        assert_close(gradient, through_the_loop, 1e-4)


@pytest.mark.parametrize("name", HARD + SOFT)
def test_class_confidence_agrees(name):
    problem = make_problem(name)
    labels, logits, weight = problem.labels, problem.logits, problem.sample_weight
    classes = logits.shape[1]
    outcome = run(labels, logits, np.ones(classes), np.zeros(classes), weight)
    q, seen = reference.class_confidence(labels, logits, weight)
    assert_close(outcome.confidence, q)
    assert_close(outcome.weight_seen, seen, 1e-6)
    assert not np.any(outcome.confidence[seen == 0])
    assert not np.any(outcome.weight_seen[seen == 0])


@pytest.mark.parametrize("threshold", ["mean", 0.25, 0.5, 2.0])
@pytest.mark.parametrize("weight", [None, [3, 0, 0.5, 1, 2]], ids=["all", "seen"])
def test_split_and_bound_by_confidence_agree(threshold, weight):
    q = np.array([0.5, 0.0, 0.9, 0.1, 0.25], "float32")  # 0.5 and 0.25 are ties: S(0) = +1
    direction = functional.split_by_confidence(q, threshold, weight=weight)
    bound = functional.bound_by_confidence(q, threshold, 0.1, 0.7, weight=weight)
    assert_close(direction, reference.split_by_confidence(q, threshold, weight), 0)
    assert_close(bound, reference.bound_by_confidence(q, threshold, 0.1, 0.7, weight), 1e-6)


def test_mean_confidence_leaves_out_classes_not_seen():
    """The mean of 0.75 and 0.375 is 0.5625; with the class that was not seen it would be 0.375."""
    q, weight = np.array([0.75, 0.5, 0.0, 0.4375], "float32"), [1, 0, 0, 2]
    direction = functional.split_by_confidence(q, "mean", weight=weight)
    assert numpy(direction).tolist() == [-1, 1, 1, 1]
    assert numpy(functional.split_by_confidence(q, "mean")).tolist() == [-1, -1, 1, -1]


@pytest.mark.parametrize("threshold", [1, 2, 3, 0.2, 0.4, 0.5, 0.6, 0.9])
@pytest.mark.parametrize(
    "counts",
    [CLASS_COUNTS, [50, 50, 50, 50, 50], [7, 100, 7, 100, 7], [5000, 2997, 1796, 1077, 645]],
    ids=["unsorted", "equal", "ties", "sorted"],
)
def test_split_and_bound_by_frequency_agree(counts, threshold):
    direction = functional.split_by_frequency(counts, threshold)
    bound = functional.bound_by_frequency(counts, threshold, 0.1, 2.5, head_scale=0.6)
    assert_close(direction, reference.split_by_frequency(counts, threshold), 0)
    assert_close(bound, reference.bound_by_frequency(counts, threshold, 0.1, 2.5, 0.6), 1e-6)


@pytest.mark.parametrize(
    ("counts", "threshold", "head"),
    [
        (CLASS_COUNTS, 2, [1, 3]),
        (CLASS_COUNTS, 0.4, [1, 3]),
        (list(range(10, 0, -1)), 0.4, [0, 1, 2, 3]),
        ([7, 100, 7, 100, 7], 1, []),  # two classes share the first rank: neither is head
        ([7, 100, 7, 100, 7], 2, [1, 3]),
        ([7, 100, 7, 100, 7], 3, [1, 3]),
        ([7, 100, 7, 100, 7], 4, [0, 1, 2, 3, 4]),
    ],
)
def test_split_by_frequency_by_hand(counts, threshold, head):
    direction = numpy(functional.split_by_frequency(counts, threshold))
    assert np.flatnonzero(direction < 0).tolist() == head


def test_bound_by_frequency_by_hand():
    """Largest for the most frequent class and for the rarest."""
    bound = functional.bound_by_frequency([10, 100, 50, 20], 2, 0.5, 2.0, head_scale=0.5)
    assert_close(bound, [2.5, 1.5, 1.0, 1.5], 1e-6)


# --- Steps ----------------------------------------------------------------------------------


def test_num_steps_by_hand():
    bound = np.array([0.3, 0.29999, 0.0, 0.09, 0.1, 0.7, 5.0, 1.15])
    assert numpy(functional.num_steps(bound, 0.1)).tolist() == [3, 2, 0, 0, 1, 7, 50, 11]


def test_steps_come_to_an_end():
    """More than 5,000 raise where they are seen, and are cut off in a tensor."""
    assert numpy(functional.num_steps([5.0], 1e-3)).tolist() == [5000]
    for bound, step_size in [([6.0], 1e-3), (np.array([1e10, 1.0]), 1e-3), ([np.inf], 1.0)]:
        with pytest.raises(ValueError, match=r"5000 is the most.*perturb_logits_at_once.*Received"):
            functional.num_steps(bound, step_size)
    steps = functional.num_steps(ops.convert_to_tensor([1e10, 1.0, np.inf]), 1e-3)
    assert numpy(steps).tolist() == [5000, 1000, 5000]
    arguments = ([0], [[0.0, 0.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"5000 is the most.*Received: num_steps=\[9000, 1\]"):
        functional.perturb_logits(*arguments, [9000, 1], 1e-3)
    # Compiled, as five thousand steps take a while one by one.
    cut_off = engines.compiled(lambda steps: functional.perturb_logits(*arguments, steps, 1e-3))
    longest = engines.compiled(lambda: functional.perturb_logits(*arguments, [5000, 1], 1e-3))
    assert_close(cut_off(ops.convert_to_tensor([9000, 1])), longest(), 1e-6)


@pytest.mark.parametrize("counts", [[2**31, 2**40, 5], np.array([2**62, 2**33, 7])], ids=str)
def test_counts_beyond_int32(counts):
    exact = [int(count) for count in counts]
    assert_close(
        functional.split_by_frequency(counts, 1), reference.split_by_frequency(exact, 1), 0
    )
    bound = functional.bound_by_frequency(counts, 1, 0.1, 2.0)
    assert_close(bound, reference.bound_by_frequency(exact, 1, 0.1, 2.0), 1e-6)
    logs = np.log(np.array(exact, "float64"))
    assert_close(functional.bound_by_log_frequency(counts), np.abs(logs - logs.mean()), 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step_size", [0.01, 0.02, 0.03, 0.1, 0.2, 0.3])
def test_num_steps_is_robust_to_rounding(dtype, step_size):
    """A bound of k steps is k and not k - 1, one of k + 0.999 is not k + 1, for k up to 500."""
    k = np.arange(501)
    for bound in (k * step_size).astype(dtype), ((k + 0.999) * step_size).astype(dtype):
        steps = numpy(functional.num_steps(bound, step_size))
        assert np.issubdtype(steps.dtype, np.integer)
        np.testing.assert_array_equal(steps, k)
        np.testing.assert_array_equal(reference.num_steps(bound, step_size), k)
