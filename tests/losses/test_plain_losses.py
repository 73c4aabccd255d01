"""Losses that bend or weigh cross-entropy, beyond the contract."""

from decimal import Decimal, localcontext

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import engines
from keras_lpl.losses import class_balanced_weights
from tests import reference, reference_losses
from tests.contract import assert_close, batch, per_sample
from tests.gradients import value_and_gradient

ALWAYS_SECOND = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]
SINGULAR = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]

ARGUMENTS = {
    "gamma": (
        lambda: keras_lpl.FocalLoss(gamma=-1),
        "`gamma`.*at least 0. Received: gamma=-1",
    ),
    "beta of 1": (
        lambda: keras_lpl.ClassBalancedLoss([5, 4], beta=1),
        r"`beta` must be below 1; with 0.999999 .* Received: beta=1",
    ),
    "beta above 1": (
        lambda: keras_lpl.ClassBalancedLoss([5, 4], beta=1.5),
        "`beta`.*at least 0 and at most 1. Received: beta=1.5",
    ),
    "base": (
        lambda: keras_lpl.ClassBalancedLoss([5, 4], base="sigmoid"),
        "`base` must be one of .*'sigmoid_focal'.*Received: base='sigmoid'",
    ),
    "gamma of a base": (
        lambda: keras_lpl.ClassBalancedLoss([5, 4], gamma=-1),
        "`gamma`.*Received: gamma=-1",
    ),
    "counts": (
        lambda: keras_lpl.ClassBalancedLoss([5, 0]),
        r"`class_counts` must be positive.*Received: class_counts\[1\]=0",
    ),
    "counts of weights": (
        lambda: class_balanced_weights([5, 0], 0.9),
        r"`class_counts` must be positive.*Received: class_counts\[1\]=0",
    ),
    "q": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(q=1.1),
        "`q`.*at least 0 and at most 1. Received: q=1.1",
    ),
    "truncate of 0": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(truncate=0),
        "`truncate`.*greater than 0 and at most 1. Received: truncate=0",
    ),
    "truncate of 1": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(truncate=1.0),
        "`truncate` must be below 1.*takes 0.5. Received: truncate=1.0",
    ),
    "start of 1": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(truncate=0.5, start=1),
        "`start` must be below 1.*leave `truncate` out. Received: start=1",
    ),
    "start alone": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(start=0.5),
        "`start`.*pass `truncate`.*Received: start=0.5, truncate=None",
    ),
    "weight of labels": (
        lambda: keras_lpl.BootstrappingLoss(beta=0),
        "`beta`.*greater than 0 and at most 1. Received: beta=0",
    ),
    "method": (
        lambda: keras_lpl.CorrectedLoss(np.eye(3), method="both"),
        "`method` must be one of .*Received: method='both'",
    ),
    "not square": (
        lambda: keras_lpl.CorrectedLoss([[0.5, 0.5]]),
        r"`transition` must be a square matrix.*P\(label c \| true class j\).*shape \(1, 2\)",
    ),
    "not a matrix": (
        lambda: keras_lpl.CorrectedLoss([[1.0], [0.5, 0.5]]),
        r"`transition` must be a square matrix.*Received: \[\[1.0\], \[0.5, 0.5\]\]",
    ),
    "negative": (
        lambda: keras_lpl.CorrectedLoss([[1.0, 0.0], [-0.5, 1.5]]),
        r"`transition`.*cannot be negative. Received: transition\[1\]\[0\]=-0.5",
    ),
    "not a number": (
        lambda: keras_lpl.CorrectedLoss([[1.0, 0.0], [np.nan, 1.0]]),
        r"Received: transition\[1\]\[0\]=nan",
    ),
    "rows": (
        lambda: keras_lpl.CorrectedLoss([[9, 1], [2, 8]]),
        "rows of `transition` must sum to 1.*its sum. Received: row 0 with sum 10",
    ),
    "columns for rows": (
        lambda: keras_lpl.CorrectedLoss([[0.9, 0.2], [0.1, 0.8]]),
        "must sum to 1.*transpose it. Received: row 0 with sum 1.1",
    ),
    "singular": (
        lambda: keras_lpl.CorrectedLoss(SINGULAR, method="backward"),
        "`transition` is too close to singular.*method='forward'. Received: .*condition number",
    ),
    "size": (
        lambda: keras_lpl.CorrectedLoss(np.eye(3))(np.zeros(4, int), np.zeros((4, 5))),
        "`transition` must have one row.*Received: a 3 x 3 matrix for logits of 5 classes",
    ),
    "number of counts": (
        lambda: keras_lpl.ClassBalancedLoss([5, 4])(np.zeros(4, int), np.zeros((4, 3))),
        r"one entry per class. Received: 2 counts of shape \(2,\) for logits of 3 classes",
    ),
    "strength of LADE": (
        lambda: keras_lpl.LADELoss([5, 4], strength=-1),
        "`strength`.*at least 0. Received: strength=-1",
    ),
    "penalty of LADE": (
        lambda: keras_lpl.LADELoss([5, 4], penalty=-1),
        "`penalty`.*at least 0. Received: penalty=-1",
    ),
    "labels of LADE": (
        lambda: keras_lpl.LADELoss([[5, 4]], multi_label=True),
        "LADELoss compares the classes of one label.*Received: multi_label=True",
    ),
    "share": (
        lambda: keras_lpl.AverageTopKLoss(0),
        "`share`.*greater than 0 and at most 1. Received: share=0",
    ),
    "noise": (
        lambda: keras_lpl.GCLLoss([5, 4], noise=-1),
        "`noise`.*at least 0. Received: noise=-1",
    ),
    "scale of ALA": (
        lambda: keras_lpl.ALALoss([5, 4], scale=0),
        "`scale`.*greater than 0. Received: scale=0",
    ),
    "steepness": (
        lambda: keras_lpl.ProSelfLCLoss(steepness=-1),
        "`steepness`.*at least 0. Received: steepness=-1",
    ),
    "transition": (
        lambda: keras_lpl.ProSelfLCLoss(transition=1.5),
        "`transition`.*at most 1. Received: transition=1.5",
    ),
    "smoothing": (
        lambda: keras_lpl.LabelOverSmoothingLoss(1.0),
        "`smoothing` must be below 1.*Received: smoothing=1.0",
    ),
    "progress": (
        lambda: keras_lpl.GeneralizedCrossEntropyLoss(truncate=0.5)([0], np.zeros((1, 3))),
        "GeneralizedCrossEntropyLoss needs the model's progress.*`keras_lpl.LPLModel`",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    make, message = ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        make()


# --- Focal ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_focal_value_and_gradient_at_any_distance(gamma):
    """To relative precision, from 100 below the other logit to 100 above it."""
    lead = np.array([-100.0, -40.0, -5.0, 0.0, 5.0, 17.0, 30.0, 100.0])
    loss = keras_lpl.FocalLoss(gamma, reduction=None)

    def total(x):
        losses = loss(np.zeros(len(lead), "int32"), x)
        return ops.sum(losses), losses

    logits = np.stack([lead, 0 * lead], axis=-1).astype("float32")
    (_, losses), gradient = value_and_gradient(total, logits, has_aux=True)

    minus_log_p, minus_log_rest = np.logaddexp(0, -lead), np.logaddexp(0, lead)
    p, rest = np.exp(-minus_log_p), np.exp(-minus_log_rest)
    factor = np.exp(-gamma * minus_log_rest)
    expected = factor * minus_log_p
    slope = -factor * (gamma * p * minus_log_p + rest)
    assert np.all(np.isfinite(gradient))
    # Cross-entropy itself is the framework's, which rounds p to 1.
    tested = expected > (1e-2 if gamma == 0 else 1e-35)
    np.testing.assert_allclose(losses[tested], expected[tested], rtol=2e-5)
    np.testing.assert_allclose(gradient[tested, 0], slope[tested], rtol=2e-5)
    np.testing.assert_allclose(gradient[tested, 1], -slope[tested], rtol=2e-5)


def test_focal_at_ties():
    """An untrained head gives equal logits, of which none is the largest."""
    loss = keras_lpl.FocalLoss(2.0, reduction="sum")
    labels, logits = np.array([0, 1]), np.zeros((2, 4), "float32")
    _, gradient = value_and_gradient(lambda x: loss(labels, x), logits)
    expected = reference.finite_difference_gradient(
        lambda x: reference_losses.focal(labels, x, gamma=2.0).sum(), logits
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


# --- Class-balanced -------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 0.9999, 1 - 1e-12, np.nextafter(1.0, 0.0)])
def test_class_balanced_weights_are_exact(beta):
    counts = [5000, 1, 387, 50, 2]
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(float(beta))
        weights = [(1 - exact) / (1 - exact**count) for count in counts]
        expected = [float(len(counts) * weight / sum(weights)) for weight in weights]
    np.testing.assert_allclose(class_balanced_weights(counts, beta), expected, rtol=1e-13)


def test_class_balanced_weights_without_balancing():
    np.testing.assert_array_equal(class_balanced_weights([90, 10, 1], beta=0), [1, 1, 1])
    np.testing.assert_allclose(class_balanced_weights([7, 7, 7], beta=0.99), 1, rtol=1e-15)


def test_class_balanced_with_beta_of_0_is_its_base():
    labels, logits = batch(0)
    balanced = keras_lpl.ClassBalancedLoss([9, 8, 7, 6, 5], 0, base="focal", gamma=1.5)
    focal = keras_lpl.FocalLoss(1.5)
    assert_close(float(balanced(labels, logits)), float(focal(labels, logits)))


# --- Generalized cross-entropy --------------------------------------------------------------


def test_gce_lies_between_cross_entropy_and_absolute_error():
    labels, logits = batch(1)
    crossentropy = reference.softmax_crossentropy(labels, logits)
    nearly = keras_lpl.GeneralizedCrossEntropyLoss(q=1e-4, reduction=None)
    np.testing.assert_allclose(per_sample(nearly, labels, logits), crossentropy, rtol=2e-3)
    # Closer than q itself: the next term of the series, so nothing is lost to cancellation.
    second = crossentropy - 1e-4 * crossentropy**2 / 2
    np.testing.assert_allclose(per_sample(nearly, labels, logits), second, rtol=1e-5)
    absolute = keras_lpl.GeneralizedCrossEntropyLoss(q=1.0, reduction=None)
    assert_close(per_sample(absolute, labels, logits), 1 - np.exp(-crossentropy))


def test_gce_gives_truncated_samples_up():
    loss = keras_lpl.GeneralizedCrossEntropyLoss(q=0.5, truncate=0.25, start=0, reduction="sum")
    logits = np.log(np.array([[0.2, 0.8], [0.3, 0.7]], "float32"))
    value, gradient = value_and_gradient(lambda x: loss(np.zeros(2, "int32"), x), logits)
    assert_close(value, (1 - 0.25**0.5) / 0.5 + (1 - 0.3**0.5) / 0.5)
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.all(np.abs(gradient[1]) > 0.1)


class WeightsAtEpochs(keras.callbacks.Callback):
    """Keeps the model's weights after each epoch, and stops after `last`."""

    def __init__(self, last=None):
        super().__init__()
        self.last, self.weights = last, []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(np.array(self.model.layers[-1].kernel))
        self.model.stop_training = epoch == self.last


def _gce_model(**settings):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(inputs))
    loss = keras_lpl.GeneralizedCrossEntropyLoss(q=0.7, **settings)
    model.compile(keras.optimizers.SGD(0.5), loss=loss)
    return model


def _fit(model, epochs=4, initial_epoch=0, last=None):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 6)).astype("float32"), np.arange(24) % 3
    after = WeightsAtEpochs(last)
    plan = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, epochs=epochs, initial_epoch=initial_epoch, callbacks=[after], **plan)
    return after.weights


def test_truncation_starts_on_time_and_where_a_run_is_resumed(tmp_path):
    """Half of training plain, half truncated; an interruption in either half changes nothing."""
    scheduled = _fit(_gce_model(truncate=0.5, start=0.5))
    plain_model = _gce_model()
    plain = _fit(plain_model, epochs=2)
    np.testing.assert_array_equal(scheduled[:2], plain)
    from_start = keras_lpl.GeneralizedCrossEntropyLoss(q=0.7, truncate=0.5, start=0)
    plain_model.compile(plain_model.optimizer, loss=from_start)
    truncated = _fit(plain_model, epochs=2)
    assert_close(scheduled[2:], truncated)
    assert np.max(np.abs(truncated[-1] - plain[-1])) > 1e-3

    for last in (0, 2):
        interrupted = _gce_model(truncate=0.5, start=0.5)
        _fit(interrupted, last=last)
        interrupted.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        rest = _fit(restored, initial_epoch=last + 1)
        assert_close(rest, scheduled[last + 1 :])


# --- Bootstrapping --------------------------------------------------------------------------


def test_bootstrapping_defaults_depend_on_the_form():
    assert keras_lpl.BootstrappingLoss().beta == 0.95
    assert keras_lpl.BootstrappingLoss(hard=True).beta == 0.8
    assert keras_lpl.BootstrappingLoss(0.5, hard=True).beta == 0.5


@pytest.mark.parametrize("hard", [False, True])
def test_bootstrapping_where_probabilities_underflow(hard):
    loss = keras_lpl.BootstrappingLoss(0.9, hard=hard)
    logits = np.array([[0.0, 1000.0, -1e30]], "float32")
    value, gradient = value_and_gradient(lambda x: loss(np.array([0]), x), logits)
    assert_close(value, 900.0)
    np.testing.assert_allclose(gradient, [[-0.9, 0.9, 0]], atol=1e-6)


# --- Correction -----------------------------------------------------------------------------


def test_backward_correction_is_unbiased_and_can_be_negative():
    """Its mean over the noise of a true class is the cross-entropy of that class."""
    transition = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]])
    loss = keras_lpl.CorrectedLoss(transition, method="backward", reduction=None)
    logits = np.array([[4.0, 0.0, -1.0]] * 3, "float32")
    by_label = per_sample(loss, np.arange(3), logits)
    clean = reference.softmax_crossentropy(np.arange(3), logits)
    assert_close(transition @ by_label, clean)
    assert by_label.min() < -0.5


def test_forward_correction_with_labels_that_cannot_be():
    """Zeros in the matrix leave finite losses, and no gradient where nothing can be learnt."""
    loss = keras_lpl.CorrectedLoss(ALWAYS_SECOND, reduction="sum")
    # Sure of class 1, which is never labelled 0; and of class 0, for a label it may have.
    logits = np.array([[-100.0, 100, 0], [100, -100, 0]], "float32")
    value, gradient = value_and_gradient(lambda x: loss(np.array([0, 1]), x), logits)
    assert_close(value, 200 + 2 * np.log(2))
    np.testing.assert_allclose(gradient, [[-1, 1, 0], [0, 0, 0]], atol=1e-6)

    merged = keras_lpl.CorrectedLoss([[0.0, 1.0], [0.0, 1.0]], reduction="sum")
    value, gradient = value_and_gradient(
        lambda x: merged(np.array([0]), x), np.ones((1, 2), "float32")
    )
    assert_close(value, 1e4)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 2.0, 2.0]], ids=str)
def test_hard_bootstrapping_shares_its_opinion_among_equals(logits, compiled):
    """The gradient is the same on every backend: classes of equal probability get equal parts."""
    loss = keras_lpl.BootstrappingLoss(0.8, hard=True)
    u = np.array(logits)
    is_largest = u == u.max()
    probability = np.exp(u) / np.exp(u).sum()
    target = 0.8 * np.eye(3)[0] + 0.2 * is_largest / is_largest.sum()
    of = engines.compiled_value_and_gradient if compiled else engines.value_and_gradient

    def total(x):
        return loss(np.array([0]), x)

    x = u[None].astype("float32")
    _, gradient = of(total)(x) if compiled else of(total, x)
    assert_close(gradient[0], probability - target)
