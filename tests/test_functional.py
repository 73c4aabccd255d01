"""`keras_lpl.functional` against the naive float64 oracle, and the laws it must keep.

Inputs are float32, and the oracle gets the same float32 numbers, so that only the library's own
rounding shows. Few shapes are used, so that each is compiled once.
"""

import dataclasses
import typing

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import functional
from tests import gradients, reference

CLASS_COUNTS = np.array([30, 500, 4, 120, 9])  # not sorted, on purpose
DIRECTION = np.array([1, -1, 1, -1, 1], "float32")
STEPS = np.array([5, 4, 3, 6, 2], "int32")

HARD = [
    "plain",
    "absent classes",
    "duplicates",
    "two classes",
    "one sample",
    "more classes than samples",
    "weights",
]
SOFT = ["mixup", "smoothed", "weighted mixup", "few smoothed", "few weighted mixup"]

step_kinds = pytest.mark.parametrize("normalize_gradient", [True, False], ids=["unit", "printed"])


@dataclasses.dataclass
class Problem:
    """One batch, and the training counts of its classes."""

    labels: np.ndarray
    logits: np.ndarray
    class_counts: np.ndarray
    sample_weight: np.ndarray | None = None


def make_problem(name):
    rng = np.random.default_rng(0)
    num_samples, num_classes, counts, weight = 12, 5, CLASS_COUNTS, None
    if name == "more classes than samples":
        num_samples, num_classes = 6, 300
        counts = rng.permutation(300) + 1
    elif name == "two classes":
        num_classes, counts = 2, np.array([3, 40])
    elif name == "one sample":
        num_samples = 1
    elif name.startswith("few"):
        num_samples = 4
    labels = rng.integers(0, num_classes, num_samples)
    if name == "absent classes":
        labels = rng.choice([1, 4], num_samples)
    elif name == "more classes than samples":
        labels[1] = labels[0]  # else no class has two samples
    logits = (2 * rng.standard_normal((num_samples, num_classes))).astype("float32")
    if name == "duplicates":
        labels[6:], logits[6:] = labels[:6], logits[:6]
    if "weight" in name:
        weight = rng.uniform(0.1, 3, num_samples).astype("float32")
        weight[::4] = 0
    if name == "weights":
        weight[labels == labels[1]] = 0  # a class that is in the batch, but without weight
    if "mixup" in name:
        share = rng.uniform(size=(num_samples, 1)).astype("float32")
        labels = share * one_hot(labels) + (1 - share) * one_hot(labels[::-1])
    elif "smoothed" in name:
        labels = np.float32(0.9) * one_hot(labels) + np.float32(0.1 / num_classes)
    return Problem(labels, logits, counts, weight)


def one_hot(labels, num_classes=5):
    return np.eye(num_classes, dtype="float32")[labels]


def numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


class Outcome(typing.NamedTuple):
    """What the library makes of one batch."""

    perturbed: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    weight_seen: np.ndarray
    mean_loss: np.ndarray | None = None
    gradient: np.ndarray | None = None


def mean_loss(logits, labels, direction, num_steps, sample_weight, normalize_gradient):
    """Mean of weight times loss over the batch, for steps of 0.1, and all on the way to it."""
    options = {"normalize_gradient": normalize_gradient, "sample_weight": sample_weight}
    perturbed = functional.perturb_logits(labels, logits, direction, num_steps, 0.1, **options)
    loss = functional.softmax_crossentropy(labels, perturbed)
    q, seen = functional.class_confidence(labels, logits, sample_weight)
    weight = 1.0 if sample_weight is None else ops.convert_to_tensor(sample_weight)
    return ops.mean(loss * weight), Outcome(perturbed, loss, q, seen)


def run(labels, logits, direction, num_steps, sample_weight=None, normalize_gradient=True):
    """Everything at once, so that each backend compiles few functions."""
    (value, outcome), gradient = gradients.value_and_gradient(
        mean_loss,
        logits,
        labels,
        np.asarray(direction, "float32"),
        np.asarray(num_steps, "int32"),
        sample_weight,
        has_aux=True,
        normalize_gradient=normalize_gradient,
    )
    return outcome._replace(mean_loss=value, gradient=gradient)


def perturb(*args, **kwargs):
    """The perturbed logits alone."""
    return run(*args, **kwargs).perturbed


def direction_and_steps(functions, problem, logits, split):
    """The first three steps of LPL by `functions`: the library's, or the oracle's namesakes."""
    if split == "confidence":
        q, seen = functions.class_confidence(
            problem.labels, logits, sample_weight=problem.sample_weight
        )
        direction = functions.split_by_confidence(q, "mean", weight=seen)
        bound = functions.bound_by_confidence(q, "mean", 0.25, 1.0, weight=seen)
    else:
        counts = problem.class_counts
        direction = functions.split_by_frequency(counts, 0.4)
        bound = functions.bound_by_frequency(counts, 0.4, 0.25, 1.0, head_scale=0.6)
    return direction, functions.num_steps(bound, 0.1)


def assert_close(actual, expected, rtol=1e-5):
    """The largest error is at most `rtol` times the largest magnitude expected. NaN is an error."""
    actual, expected = numpy(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.max(np.abs(expected))
    error = np.max(np.abs(actual.astype("float64") - expected))
    assert error <= rtol * scale, f"error {error:.3g} is over {rtol:g} of {scale:.3g}"


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
