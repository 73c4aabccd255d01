"""Running statistics are those of all samples seen, in any split into batches."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import layers, read_output
from keras_lpl.methods.isda import moments as moments_file

CLASSES, FEATURES = 4, 3


@pytest.fixture(params=["full", "full, one by one", "diagonal"])
def diagonal(request, monkeypatch):
    """Full covariances in both ways, between which their size decides, and diagonal ones."""
    if "one by one" in request.param:
        monkeypatch.setattr(moments_file, "MANY_NUMBERS", 0)
    return request.param == "diagonal"


def samples(seed=0, size=60):
    """Labels, features with a mean far from zero, and logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, size)  # the last class never occurs
    mixing = rng.normal(size=(CLASSES, FEATURES, FEATURES))
    features = np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(size, FEATURES))) + 5
    return labels, features.astype("float32"), np.zeros((size, CLASSES), "float32")


def moments(diagonal=False):
    return layers.RunningMoments(CLASSES, FEATURES, diagonal=diagonal)


def update(statistic, labels, logits, features=None, weight=None):
    samples = read_output(labels, logits, weight, features=features)
    statistic.update(samples.detached())


def feed(statistic, labels, features, logits, sizes, weight=None):
    """Updates with batches of the given sizes."""
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        part_weight = None if weight is None else weight[part]
        update(statistic, labels[part], logits[part], features[part], part_weight)
        start += size
    return statistic


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def assert_moments(statistic, labels, features, weight=None):
    """Equal to NumPy's over all samples."""
    weight = np.ones(len(labels)) if weight is None else weight
    for c in range(CLASSES):
        mine, w = features[labels == c].astype("float64"), weight[labels == c]
        if not len(mine):
            assert not numbers(statistic.mean)[c].any()
            assert not numbers(statistic.covariance)[c].any()
            continue
        covariance = np.cov(mine.T, bias=True, aweights=w)
        expected = np.diag(covariance) if statistic.diagonal else covariance
        mean = np.average(mine, axis=0, weights=w)
        np.testing.assert_allclose(numbers(statistic.mean)[c], mean, rtol=1e-5)
        tolerance = 1e-5 * np.abs(covariance).max()
        np.testing.assert_allclose(numbers(statistic.covariance)[c], expected, atol=tolerance)
        np.testing.assert_allclose(numbers(statistic.count)[c, 0], w.sum(), rtol=1e-6)


@pytest.mark.shared_out
@pytest.mark.parametrize("sizes", [[60], [20, 20, 20], [40, 1, 19], [1] * 12 + [48]], ids=str)
def test_moments_are_numpys_in_any_batch_split(diagonal, sizes):
    labels, features, logits = samples()
    assert_moments(feed(moments(diagonal), labels, features, logits, sizes), labels, features)


@pytest.mark.shared_out
def test_weights_and_one_hot_labels(diagonal):
    labels, features, logits = samples(1)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(labels)).astype("float32")
    weight[:20] = 0
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    for given in (labels, one_hot):
        statistic = feed(moments(diagonal), given, features, logits, [25, 35], weight)
        assert_moments(statistic, labels[20:], features[20:], weight[20:])


def test_soft_labels_spread_a_sample_over_its_classes(diagonal):
    labels, features, logits = samples(2, size=30)
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    soft = 0.75 * one_hot + 0.25 * one_hot[::-1]
    both = feed(moments(diagonal), soft, features, logits, [10, 20])
    # The same as two samples of less weight.
    twice = np.concatenate([labels, labels[::-1]])
    weight = np.repeat([0.75, 0.25], 30)
    assert_moments(both, twice, np.concatenate([features, features]), weight)


def test_what_is_not_finite_does_not_poison_moments(diagonal):
    labels, features, logits = samples(3)
    spoilt, spoilt_logits = features.copy(), logits.copy()
    spoilt[3, 1], spoilt_logits[7, 0] = np.nan, np.inf
    statistic = feed(moments(diagonal), labels, spoilt, spoilt_logits, [30, 30])
    kept = np.delete(np.arange(len(labels)), [3, 7])
    assert_moments(statistic, labels[kept], features[kept])


def test_a_stateless_scope_has_the_new_moments_and_the_layer_the_old(diagonal):
    labels, features, logits = samples()
    statistic = feed(moments(diagonal), labels[:30], features[:30], logits[:30], [30])
    state = [(variable, ops.copy(variable.value)) for variable in statistic.variables]
    old = [numbers(variable).copy() for variable in statistic.variables]
    with keras.StatelessScope(state_mapping=state) as scope:
        update(statistic, labels[30:], logits[30:], features[30:])
    for variable, value in zip(statistic.variables, old, strict=True):
        np.testing.assert_array_equal(numbers(variable), value)
        variable.assign(scope.get_current_value(variable))
    assert_moments(statistic, labels, features)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the others hand arrays over")
def test_matrices_of_many_features_are_not_written_as_a_whole(monkeypatch):
    monkeypatch.setattr(moments_file, "MANY_NUMBERS", 0)
    labels, features, logits = samples()
    statistic = moments()
    monkeypatch.setattr(statistic.scatter, "assign", None)
    feed(statistic, labels, features, logits, [30, 30])
    assert_moments(statistic, labels, features)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="only torch changes them in place")
@pytest.mark.parametrize("size", [3, 1030])  # all classes at once, and one after the other
def test_moments_take_no_part_in_gradients(size):
    moments = layers.RunningMoments(2, size)
    features = ops.convert_to_tensor(np.ones((4, size), "float32"))
    labels, logits = np.zeros(4, "int32"), np.zeros((4, 2), "float32")
    moments.update(read_output(labels, logits, features=features.requires_grad_()))
    assert not moments.scatter.value.requires_grad


def test_counts():
    counts = layers.RunningClassCounts(3)
    logits = np.zeros((4, 3), "float32")
    update(counts, np.array([0, 2, 2, 1]), logits, weight=np.array([1.0, 1.0, 1.0, 0.0]))
    soft = np.array([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], "float32")
    update(counts, soft, logits)
    np.testing.assert_allclose(numbers(counts.counts), [2.5, 0.5, 4])


def test_centers_move_by_the_papers_equation():
    centers = layers.ClassCenters(CLASSES, FEATURES, rate=0.5)
    expected = np.zeros((CLASSES, FEATURES))
    for seed in range(3):
        labels, features, logits = samples(seed, size=10)
        for c in range(CLASSES):  # Eq. 4
            total, count = np.zeros(FEATURES), 0
            for i in range(10):
                if labels[i] == c:
                    total += expected[c] - features[i]
                    count += 1
            expected[c] = expected[c] - 0.5 * total / (1 + count)
        update(centers, labels, logits, features)
    np.testing.assert_allclose(numbers(centers.centers), expected, rtol=1e-5, atol=1e-6)


def test_centers_take_the_rate_of_a_new_compilation():
    centers = layers.ClassCenters(2, 2, rate=0.5)
    centers.take_settings(layers.ClassCenters(2, 2, rate=0.1))
    assert centers.rate == 0.1


@pytest.mark.shared_out
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "soft"])
def test_whatever_is_taken_in_stays_finite(diagonal, soft):
    """Features, weights and logits just within and just beyond what counts as finite."""
    sizes = [1e14, 5e14, 2e15, 3e38, 0.5, 0.5, 0.5, 1e14, 1e14]
    weight = np.array([1, 1, 1, 1, 9e29, 2e30, 3e38, 10, 1e29], "float32")
    features = np.array(sizes, "float32")[:, None] * np.ones((1, FEATURES), "float32")
    labels, logits = np.arange(len(sizes)) % 2, np.zeros((len(sizes), CLASSES), "float32")
    logits[:, 0], logits[:4, 1] = 1e29, -1e29
    if soft:
        labels = 0.5 * np.eye(CLASSES, dtype="float32")[labels] + 0.5 / CLASSES
    statistics = [
        moments(diagonal),
        layers.RunningClassCounts(CLASSES),
        layers.RunningClassConfidence(CLASSES, momentum=1.0),
        layers.ClassCenters(CLASSES, FEATURES),
    ]
    for statistic in statistics:
        for _ in range(10):
            update(statistic, labels, logits, features, weight)
        for variable in statistic.variables:
            assert np.all(np.isfinite(numbers(variable))), variable.path
    seen = numbers(statistics[1].counts).sum(dtype="float64") / 10
    np.testing.assert_allclose(seen, weight[[0, 1, 4, 7]].sum(dtype="float64"), rtol=1e-5)
