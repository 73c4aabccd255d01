"""The laws that the perturbed logits keep, and what becomes of extreme, broken and large input."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import functional
from tests import gradients, reference
from tests.lpl_problems import (
    DIRECTION,
    STEPS,
    Outcome,
    assert_close,
    direction_and_steps,
    make_problem,
    numpy,
    one_hot,
    perturb,
    run,
    step_kinds,
)

# --- Steps ----------------------------------------------------------------------------------


def test_each_class_takes_its_own_number_of_steps():
    """From limit k - 1 to limit k, the classes that may take k steps move, and no others."""
    problem = make_problem("plain")
    allowed = np.array([0, 1, 2, 3, 4])
    before = problem.logits
    for k in range(1, 6):
        after = perturb(problem.labels, problem.logits, DIRECTION, np.minimum(allowed, k))
        np.testing.assert_array_equal(np.any(after != before, axis=1), allowed[problem.labels] >= k)
        before = after


@pytest.mark.parametrize("name", ["plain", "weights", "mixup", "smoothed"])
@step_kinds
def test_no_steps_change_nothing(name, normalize_gradient):
    problem = make_problem(name)
    perturbed = perturb(
        problem.labels,
        problem.logits,
        np.ones(5),
        np.zeros(5),
        sample_weight=problem.sample_weight,
        normalize_gradient=normalize_gradient,
    )
    np.testing.assert_array_equal(perturbed, problem.logits)


@step_kinds
def test_every_step_moves_the_class_loss_its_way(normalize_gradient):
    """What LPL is for: a class's mean loss rises with every step up and falls with every one down.

    (Of hard labels. Soft ones share samples, where classes may pull against one another.)
    """
    problem = make_problem("plain")
    labels, logits = problem.labels, problem.logits
    present = np.unique(labels)
    assert set(DIRECTION[present]) == {1, -1}
    previous = None
    for k in range(7):
        perturbed = perturb(
            labels, logits, DIRECTION, np.full(5, k), normalize_gradient=normalize_gradient
        )
        loss = reference.softmax_crossentropy(labels, perturbed)
        loss = np.array([np.mean(loss[labels == c]) for c in present])
        if previous is not None:
            assert np.all(DIRECTION[present] * (loss - previous) > 1e-3 * previous)
        previous = loss


@pytest.mark.parametrize("name", ["plain", "weights", "mixup"])
@pytest.mark.parametrize("direction", [1, -1])
def test_unit_steps_stay_within_the_bound(name, direction):
    """|delta_c| <= eps_c, and with it |sum_c y_c delta_c| <= sum_c y_c eps_c."""
    problem = make_problem(name)
    epsilon = np.array([0.3, 0.75, 1.0, 0.1, 0.55])
    steps = numpy(functional.num_steps(epsilon, 0.1))
    perturbed = perturb(
        problem.labels,
        problem.logits,
        np.full(5, direction),
        steps,
        sample_weight=problem.sample_weight,
    )
    length = np.linalg.norm(perturbed - problem.logits, axis=1)
    membership = one_hot(problem.labels) if problem.labels.ndim == 1 else problem.labels
    assert np.all(length <= membership @ epsilon * (1 + 1e-5))
    assert np.max(length) > 0.25


# --- Classes and samples --------------------------------------------------------------------


def test_one_class_one_delta_and_classes_do_not_meet():
    """Samples of a class move alike, and where to depends on no other class of the batch."""
    problem = make_problem("plain")
    labels, logits = problem.labels, problem.logits
    delta = perturb(labels, logits, DIRECTION, STEPS) - logits
    for c in np.unique(labels):
        of_class = delta[labels == c]
        assert_close(of_class, np.broadcast_to(of_class[0], of_class.shape), 5e-6)

    others = labels != labels[0]
    changed = np.where(others[:, None], logits[::-1], logits)
    again = perturb(labels, changed, DIRECTION, STEPS) - changed
    assert_close(again[~others], delta[~others], 5e-6)


@pytest.mark.parametrize("name", ["plain", "weights", "weighted mixup", "smoothed"])
@step_kinds
def test_relabelling_classes_relabels_the_result(name, normalize_gradient):
    problem, order = make_problem(name), np.array([3, 0, 4, 1, 2])  # new j is the old order[j]
    if problem.labels.ndim == 1:
        relabelled = np.argsort(order)[problem.labels]
    else:
        relabelled = problem.labels[:, order]
    options = {
        "sample_weight": problem.sample_weight,
        "normalize_gradient": normalize_gradient,
    }
    perturbed = perturb(problem.labels, problem.logits, DIRECTION, STEPS, **options)
    again = perturb(relabelled, problem.logits[:, order], DIRECTION[order], STEPS[order], **options)
    assert_close(again, perturbed[:, order], 1e-6)


@pytest.mark.parametrize("name", ["plain", "weights", "weighted mixup", "smoothed"])
def test_shuffling_the_batch_shuffles_the_result(name):
    problem, order = make_problem(name), np.random.default_rng(1).permutation(12)
    weight = problem.sample_weight
    perturbed = perturb(problem.labels, problem.logits, DIRECTION, STEPS, sample_weight=weight)
    again = perturb(
        problem.labels[order],
        problem.logits[order],
        DIRECTION,
        STEPS,
        sample_weight=None if weight is None else weight[order],
    )
    assert_close(again, perturbed[order], 1e-6)


@pytest.mark.parametrize("name", ["plain", "mixup", "smoothed"])
def test_a_sample_without_weight_might_as_well_not_be_there(name):
    """It changes nothing for the others, and moves with its class all the same."""
    problem = make_problem(name)
    labels, logits = problem.labels, problem.logits
    keep = np.arange(12) % 3 == 0
    weight = keep.astype("float32")

    outcome = run(labels, logits, DIRECTION, STEPS, weight)
    without = run(labels[keep], logits[keep], DIRECTION, STEPS)
    assert_close(outcome.perturbed[keep], without.perturbed, 1e-6)
    assert_close(outcome.confidence, without.confidence, 1e-6)
    assert_close(outcome.weight_seen, without.weight_seen, 1e-6)
    expected = reference.perturb_logits(labels, logits, DIRECTION, STEPS, 0.1, sample_weight=weight)
    assert_close(outcome.perturbed, expected, 1e-6)
    assert np.any(outcome.perturbed[~keep] != logits[~keep])


@pytest.mark.parametrize("name", ["plain", "mixup"])
def test_weights_count_relative_to_one_another(name):
    """Weight 3 is a sample thrice, and a factor common to all weights changes nothing."""
    problem, times = make_problem(name), np.array([5, 1, 3, 3])
    labels, logits, weight = problem.labels[:4], problem.logits[:4], times.astype("float32")
    perturbed = perturb(labels, logits, DIRECTION, STEPS, weight)
    scaled = perturb(labels, logits, DIRECTION, STEPS, 1000 * weight)
    repeated = perturb(
        np.repeat(labels, times, axis=0), np.repeat(logits, times, axis=0), DIRECTION, STEPS
    )
    assert_close(scaled, perturbed, 1e-6)
    assert_close(repeated, np.repeat(perturbed, times, axis=0), 1e-6)


@pytest.mark.parametrize("name", ["plain", "mixup"])
def test_a_batch_without_any_weight_is_left_alone(name):
    problem, weight = make_problem(name), np.zeros(12, "float32")
    outcome = run(problem.labels, problem.logits, DIRECTION, STEPS, weight)
    np.testing.assert_array_equal(outcome.perturbed, problem.logits)
    assert not np.any(outcome.confidence)
    assert not np.any(outcome.weight_seen)
    assert not np.any(outcome.gradient)


@pytest.mark.parametrize("name", ["plain", "weights", "few"])
@step_kinds
def test_one_hot_labels_are_integer_labels(name, normalize_gradient):
    problem = make_problem(name)
    arguments = problem.logits, DIRECTION, STEPS, problem.sample_weight, normalize_gradient
    hard = run(problem.labels, *arguments)
    soft = run(one_hot(problem.labels), *arguments)
    for field in Outcome._fields:
        assert_close(getattr(soft, field), getattr(hard, field), 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_than_256_classes_stay_apart(dtype):
    """Class indices that bfloat16 would round to their neighbours; the work is in float32."""
    labels = np.array([257, 256, 299, 298, 0, 257])
    logits = ops.cast(make_problem("more classes than samples").logits, dtype)
    direction, steps = np.where(np.arange(300) % 2, 1, -1), np.full(300, 4)
    perturbed = perturb(labels, logits, direction, steps)
    assert perturbed.dtype == "float32"
    rounded = numpy(logits).astype("float64")
    expected = reference.perturb_logits(labels, rounded, direction, steps, 0.1)
    assert_close(perturbed - rounded, expected - rounded)


# --- Extreme and broken input ---------------------------------------------------------------


def gap_problem(gap, wrong):
    """Two or three samples a class, whose label leads the other logits by `gap` or trails one."""
    labels = np.arange(12) % 5
    logits = np.random.default_rng(2).standard_normal((12, 5)).astype("float32")
    leader = (labels + 2) % 5 if wrong else labels
    logits[np.arange(12), leader] += np.float32(gap)
    return labels, logits


@step_kinds
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("wrong", [True, False], ids=["wrong", "right"])
@pytest.mark.parametrize("gap", [30, 60, 100, 200])
def test_saturated_logits_stay_finite(gap, wrong, soft, normalize_gradient):
    """Where float32 makes one probability 1 and the others 0. If wrong, it must still learn."""
    labels, logits = gap_problem(gap, wrong)
    labels = one_hot(labels) if soft else labels
    arguments = labels, logits, DIRECTION, STEPS
    outcome = run(*arguments, normalize_gradient=normalize_gradient)
    assert np.all(np.isfinite(outcome.loss))
    assert np.all(np.isfinite(outcome.gradient))
    longest = 0.1 if normalize_gradient else 0.1 * 2**0.5  # a step: |p - y| is at most sqrt(2)
    length = np.linalg.norm(outcome.perturbed - logits, axis=1)
    assert np.all(length <= np.max(STEPS) * longest + 1e-3)

    expected = reference.perturb_logits(*arguments, 0.1, normalize_gradient)
    if wrong or gap <= 60:  # float32 cannot tell a lead of 90 from certainty
        assert_close(outcome.perturbed, expected, 1e-6)
    if wrong:
        assert_close(outcome.loss, reference.softmax_crossentropy(labels, expected))
        assert np.all(12 * np.linalg.norm(outcome.gradient, axis=1) > 1)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("num_samples", [4, 12])
@pytest.mark.parametrize("gap", [20, 40])
def test_unit_steps_of_a_learnt_class_point_the_right_way(gap, num_samples, soft):
    """Where 1 - p rounds to 0, taking with it the largest entry of p - y."""
    labels, logits = (array[:num_samples] for array in gap_problem(gap, wrong=False))
    expected = reference.perturb_logits(labels, logits, DIRECTION, np.ones(5), 0.1) - logits
    delta = perturb(one_hot(labels) if soft else labels, logits, DIRECTION, np.ones(5)) - logits
    assert_close(delta, expected, 1e-4)  # float32 holds logits of 40 to 4e-6, a step is 0.1 long

    exponentials = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    naive = exponentials / np.sum(exponentials, axis=1, keepdims=True) - one_hot(labels)
    for c in range(4):
        mean = np.mean(naive[labels == c], axis=0)
        mean *= DIRECTION[c] * 0.1 / np.linalg.norm(mean)
        with pytest.raises(AssertionError):  # the problem is real, and the check can tell
            assert_close(mean, expected[c], 0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["plain", "mixup"])
def test_a_sample_with_a_bad_logit_keeps_to_itself(bad, name):
    problem = make_problem(name)
    logits = problem.logits.copy()
    logits[3, 2] = bad
    assert_sample_3_is_nan_and_keeps_to_itself(problem.labels, logits)


@pytest.mark.parametrize("bad", [-1, 5, 1000])
def test_a_sample_of_no_class_keeps_to_itself(bad):
    problem = make_problem("plain")
    labels = problem.labels.copy()
    labels[3] = bad
    assert_sample_3_is_nan_and_keeps_to_itself(labels, problem.logits)


def assert_sample_3_is_nan_and_keeps_to_itself(labels, logits):
    """Its own loss is NaN; all else is as if it were not there, gradients and confidence too."""
    others = np.arange(12) != 3
    outcome = run(labels, logits, DIRECTION, STEPS)
    assert not np.all(np.isfinite(outcome.perturbed[3]))
    assert np.isnan(outcome.loss[3])
    assert np.isnan(outcome.mean_loss)

    labels, logits = labels[others], logits[others]
    expected = reference.perturb_logits(labels, logits, DIRECTION, STEPS, 0.1)
    gradient = reference.softmax_crossentropy_gradient(labels, expected)
    q, seen = reference.class_confidence(labels, logits)
    assert_close(outcome.perturbed[others], expected, 1e-6)
    assert_close(12 * outcome.gradient[others], 11 * gradient)
    assert_close(outcome.confidence, q)
    assert_close(outcome.weight_seen, seen, 1e-6)


# --- Compiled, and large --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"), [("plain", "confidence"), ("weighted mixup", "frequency")]
)
def test_all_of_lpl_agrees_eager_and_compiled(name, split):
    problem = make_problem(name)

    def perturbed(functions, labels, logits):
        batch = dataclasses.replace(problem, labels=labels)
        direction, steps = direction_and_steps(functions, batch, logits, split)
        return functions.perturb_logits(
            labels, logits, direction, steps, 0.1, sample_weight=problem.sample_weight
        )

    def library(labels, logits):
        return perturbed(functional, labels, logits)

    arguments = problem.labels, problem.logits
    expected = perturbed(reference, *arguments)
    assert_close(library(*arguments), expected, 1e-6)
    assert_close(gradients.compiled(library)(*arguments), expected, 1e-6)
    if keras.backend.backend() == "tensorflow":
        assert_close(gradients.compiled(library, xla=False)(*arguments), expected, 1e-6)


@pytest.mark.parametrize("kind", ["integer", "sparse soft", "dense soft"])
def test_a_million_classes_fit(kind):
    """Memory grows with B times C: an array with C times C entries would take terabytes.

    All but five classes are out of reach, so that those five fare as in the small problem.
    """
    num_classes = 1_000_000
    problem = make_problem("mixup" if kind == "sparse soft" else "plain")
    small_labels, small_logits = problem.labels[:4], problem.logits[:4]
    logits = np.full((4, num_classes), -1e4, "float32")
    logits[:, :5] = small_logits
    labels = small_labels
    if kind != "integer":
        labels = np.zeros((4, num_classes), "float32")
        labels[:, :5] = small_labels if kind == "sparse soft" else one_hot(small_labels)
    if kind == "dense soft":
        labels = np.float32(0.9) * labels + np.float32(0.1 / num_classes)
    direction, steps = np.ones(num_classes), np.full(num_classes, 2)
    direction[:5] = DIRECTION

    outcome = run(labels, logits, direction, steps)
    if kind == "dense soft":
        assert all(np.all(np.isfinite(values)) for values in outcome)
        assert np.all(outcome.weight_seen > 0)
        return
    expected = reference.perturb_logits(small_labels, small_logits, DIRECTION, steps[:5], 0.1)
    q, seen = reference.class_confidence(small_labels, small_logits)
    assert_close(outcome.perturbed[:, :5], expected)
    np.testing.assert_array_equal(outcome.perturbed[:, 5:], logits[:, 5:])
    assert_close(outcome.confidence[:5], q)
    assert_close(outcome.weight_seen[:5], seen, 1e-6)
