"""Recall and precision by class, geometric mean, calibration error, and the chosen threshold."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import metrics

BY_CLASS = (metrics.RecallByClass, metrics.PrecisionByClass, metrics.GeometricMean)


def sample(rng, size=80, classes=5):
    labels = rng.integers(0, classes, size)
    return labels, rng.normal(size=(size, classes)).astype("float32") + np.eye(classes)[labels]


def result(metric, *arguments):
    metric.update_state(*arguments)
    return ops.convert_to_numpy(metric.result())


def naive_share(groups, hits, weight, classes):
    """Weighted share of hits in each group, one sample at a time."""
    total, right = [0.0] * classes, [0.0] * classes
    for group, hit, amount in zip(groups, hits, weight, strict=True):
        total[group] += amount
        right[group] += amount * hit
    return np.array([r / t if t else math.nan for r, t in zip(right, total, strict=True)])


@pytest.mark.parametrize("weighted", [False, True])
def test_by_class_against_counting(rng, weighted):
    labels, logits = sample(rng)
    labels[labels == 3] = 2  # does not occur
    logits[:, 1] = -99  # never predicted
    weight = rng.choice([0.0, 0.5, 2.0], 80) if weighted else np.ones(80)
    predicted = logits.argmax(axis=1)
    recall = naive_share(labels, predicted == labels, weight, 5)
    precision = naive_share(predicted, predicted == labels, weight, 5)
    assert np.isnan(recall).tolist() == [False, False, False, True, False]
    assert np.isnan(precision).tolist() == [False, True, False, False, False]
    given = (labels, logits, weight if weighted else None)
    np.testing.assert_allclose(result(metrics.RecallByClass(), *given), recall, rtol=1e-5)
    np.testing.assert_allclose(result(metrics.PrecisionByClass(), *given), precision, rtol=1e-5)


def test_geometric_mean(rng):
    labels, logits = sample(rng)
    labels[labels == 3] = 2
    recall = naive_share(labels, logits.argmax(axis=1) == labels, np.ones(80), 5)
    expected = np.prod([r for r in recall if not np.isnan(r)]) ** (1 / 4)
    assert 0.1 < expected < 0.9
    metric = metrics.GeometricMean()
    assert float(metric.result()) == 0
    np.testing.assert_allclose(result(metric, labels, logits), expected, rtol=1e-5)
    logits[:, 4] = -99  # class 4 is never found
    assert result(metrics.GeometricMean(5), labels, logits) == 0


def test_several_labels(rng):
    labels = rng.integers(0, 2, (60, 3))
    logits = (rng.normal(size=(60, 3)) + labels).astype("float32")
    hits = (logits > 0) == labels
    found = result(metrics.RecallByClass(multi_label=True), labels, logits)
    expected = [[hits[labels[:, i] == side, i].mean() for side in (0, 1)] for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def naive_calibration(labels, probability, num_bins, weight):
    bins = {}
    for label, row, amount in zip(labels, probability, weight, strict=True):
        confidence = max(row)
        entry = bins.setdefault(min(int(confidence * num_bins), num_bins - 1), [0.0, 0.0])
        entry[0] += amount * (np.argmax(row) == label)
        entry[1] += amount * confidence
    return sum(abs(hit - sure) for hit, sure in bins.values()) / sum(weight)


@pytest.mark.parametrize("num_bins", [1, 15])
def test_calibration_against_a_loop(rng, num_bins):
    labels, logits = sample(rng, 200)
    logits *= 3
    weight = rng.choice([0.0, 0.5, 2.0], 200)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = naive_calibration(labels, probability, num_bins, weight)
    assert expected > 0.05
    of_logits = metrics.ExpectedCalibrationError(num_bins)
    for part in (slice(0, 90), slice(90, 200)):  # in two batches
        of_logits.update_state(labels[part], logits[part], weight[part])
    np.testing.assert_allclose(float(of_logits.result()), expected, rtol=1e-4)
    of_probabilities = metrics.ExpectedCalibrationError(num_bins, from_logits=False)
    found = result(of_probabilities, labels, probability.astype("float32"), weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_calibration_of_certain_predictions():
    certain = np.array([[100.0, 0.0], [0.0, 100.0]], "float32")
    assert float(metrics.ExpectedCalibrationError().result()) == 0
    assert result(metrics.ExpectedCalibrationError(), [0, 1], certain) == pytest.approx(0, abs=1e-6)
    assert result(metrics.ExpectedCalibrationError(), [1, 0], certain) == pytest.approx(1)


def test_calibration_of_no_samples():
    metric = metrics.ExpectedCalibrationError()
    metric.update_state(np.zeros(0, "int32"), np.zeros((0, 3), "float32"))
    assert float(metric.result()) == 0


@pytest.mark.shared_out
@pytest.mark.parametrize("make", [*BY_CLASS, metrics.ExpectedCalibrationError])
def test_in_fit_saved_and_restored(rng, make):
    labels, logits = sample(rng)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(5, kernel_initializer="identity")(inputs))
    model.compile("sgd", keras_lpl.LPLLoss(), metrics=[make(ignore_class=4)])
    found = model.evaluate(logits, labels, verbose=0, return_dict=True)[make().name]
    kept = labels != 4
    expected = result(make(5) if make in BY_CLASS else make(), labels[kept], logits[kept])
    np.testing.assert_allclose(found, expected, rtol=1e-4, equal_nan=True)
    restored = make.from_config(json.loads(json.dumps(make(ignore_class=4).get_config())))
    np.testing.assert_allclose(result(restored, labels, logits), expected, rtol=1e-4)


# --- Thresholds -----------------------------------------------------------------------------

SCORES = {
    "f1": lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn),
    "balanced_accuracy": lambda tp, fp, fn, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2,
    "geometric_mean": lambda tp, fp, fn, tn: math.sqrt(tp / (tp + fn) * tn / (tn + fp)),
}


def table(labels, scores, threshold):
    found = scores > threshold
    return [
        sum((found == f) & (labels == y)) for f, y in ((True, 1), (True, 0), (False, 1), (False, 0))
    ]


@pytest.mark.on_one_backend
@pytest.mark.parametrize("maximize", SCORES)
@pytest.mark.parametrize("decimals", [1, 6])  # with ties, and without
def test_a_threshold_is_the_best_of_all(rng, maximize, decimals):
    labels = (rng.random(60) < 0.3).astype(int)
    scores = (rng.normal(size=60) + labels).round(decimals).astype("float32")
    threshold = metrics.choose_threshold(labels[:, None], scores[:, None], maximize)
    found = SCORES[maximize](*table(labels, scores, threshold))
    best = max(SCORES[maximize](*table(labels, scores, candidate)) for candidate in [-99, *scores])
    assert found == pytest.approx(best)


@pytest.mark.on_one_backend
def test_a_threshold_of_a_precision():
    labels = np.array([0, 1, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert metrics.choose_threshold(labels, scores, min_precision=0.7) == pytest.approx(0.15)
    assert metrics.choose_threshold(labels, scores, min_precision=0.8) == pytest.approx(0.35)
    with pytest.raises(ValueError, match=r"No threshold has that precision.*largest is 0\.333"):
        metrics.choose_threshold([1, 0, 0], [0.1, 0.9, 0.1], min_precision=0.9)


@pytest.mark.on_one_backend
def test_between_neighbouring_numbers():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([low, high])
    threshold = metrics.choose_threshold([0, 1], scores)
    assert (scores > threshold).tolist() == [False, True]


@pytest.mark.on_one_backend
@pytest.mark.parametrize("scores", [[2e7, 2e7], [-1e8, -5e7], [1e20, 2e20]])
def test_below_large_numbers(scores):
    """One less is the same number in float32."""
    scores = np.array(scores, "float32")
    threshold = metrics.choose_threshold([1, 0], scores)  # all are positive, or none is found
    assert (scores > np.float32(threshold)).all()


@pytest.mark.on_one_backend
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1], r"2 labels and 1 predictions"),
        ([0, 0], [0.1, 0.2], r"0 and 1, both.*\[0\]"),
        ([0, 2], [0.1, 0.2], r"0 and 1, both.*\[0, 2\]"),
        ([0, 1], [0.1, np.nan], "must be finite"),
    ],
)
def test_bad_data_for_a_threshold(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.choose_threshold(labels, np.array(scores))
