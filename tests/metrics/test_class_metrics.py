import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl.metrics import BalancedAccuracy, ShotAccuracy

COUNTS = [500, 150, 101, 100, 50, 20, 19, 3]  # three of many, three of medium, two of few
GROUPS = {"many": [0, 1, 2], "medium": [3, 4, 5], "few": [6, 7]}


def sample(rng, size=60, classes=8):
    labels = rng.integers(0, classes, size)
    logits = rng.normal(size=(size, classes)).astype("float32")
    logits[np.arange(size), labels] += 1
    return labels, logits


def naive(labels, logits, classes, weight=None):
    """Mean recall over those of `classes` that occur, one sample at a time."""
    hits, seen = {}, {}
    for i, label in enumerate(labels):
        if label in classes:
            amount = 1.0 if weight is None else float(weight[i])
            seen[label] = seen.get(label, 0.0) + amount
            hits[label] = hits.get(label, 0.0) + amount * (np.argmax(logits[i]) == label)
    recalls = [hits[c] / seen[c] for c in seen if seen[c] > 0]
    return np.mean(recalls) if recalls else np.nan


def metrics():
    return [BalancedAccuracy(), *(ShotAccuracy(COUNTS, shot) for shot in GROUPS)]


def expected(labels, logits, weight=None):
    groups = [range(8), *GROUPS.values()]
    return [naive(labels, logits, group, weight) for group in groups]


def results(those):
    return [float(metric.result()) for metric in those]


# --- Values ---------------------------------------------------------------------------------


def test_several_batches_against_the_naive_mean(rng):
    those = metrics()
    labels, logits = sample(rng, 180)
    for part in (slice(0, 60), slice(60, 120), slice(120, 180)):
        for metric in those:
            metric.update_state(labels[part], logits[part])
    np.testing.assert_allclose(results(those), expected(labels, logits), rtol=1e-6)


def test_balanced_accuracy_is_scikit_learns(rng):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    labels, logits = sample(rng)
    labels[labels == 3] = 2  # a class that does not occur
    weight = rng.uniform(0.5, 2, 60)
    for sample_weight in (None, weight):
        metric = BalancedAccuracy()
        metric.update_state(labels, logits, sample_weight)
        with warnings.catch_warnings():
            # Predictions of a class that does not occur.
            warnings.simplefilter("ignore", UserWarning)
            reference = sklearn_metrics.balanced_accuracy_score(
                labels, logits.argmax(axis=1), sample_weight=sample_weight
            )
        np.testing.assert_allclose(float(metric.result()), reference, rtol=1e-6)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_sample_weight(rng, shape):
    labels, logits = sample(rng)
    weight = rng.choice([0.0, 0.5, 2.0], 60).astype("float32")
    those = metrics()
    for metric in those:
        metric.update_state(labels, logits, sample_weight=weight.reshape(shape))
    np.testing.assert_allclose(results(those), expected(labels, logits, weight), rtol=1e-6)


def test_scalar_weight_changes_nothing(rng):
    labels, logits = sample(rng)
    those = metrics()
    for metric in those:
        metric.update_state(labels, logits, sample_weight=0.5)
    np.testing.assert_allclose(results(those), expected(labels, logits), rtol=1e-6)


def test_samples_of_weight_zero_change_nothing(rng):
    labels, logits = sample(rng)
    weight = np.array([1.0] * 40 + [0.0] * 20)
    those = metrics()
    for metric in those:
        metric.update_state(labels, logits, weight)
    np.testing.assert_allclose(results(those), expected(labels[:40], logits[:40]), rtol=1e-6)


@pytest.mark.parametrize("form", ["int32", "float32", "column", "one-hot", "soft", "tensor"])
def test_label_forms(rng, form):
    labels, logits = sample(rng)
    one_hot = np.eye(8, dtype="float32")[labels]
    given = {
        "int32": labels.astype("int32"),
        "float32": labels.astype("float32"),
        "column": labels[:, None],
        "one-hot": one_hot,
        "soft": 0.9 * one_hot + 0.1 / 8,
        "tensor": ops.convert_to_tensor(labels),
    }[form]
    those = metrics()
    for metric in those:
        metric.update_state(given, logits)
    np.testing.assert_allclose(results(those), expected(labels, logits), rtol=1e-6)


def test_probabilities_and_logits_score_alike(rng):
    labels, logits = sample(rng)
    for_logits, for_probabilities = BalancedAccuracy(), BalancedAccuracy()
    for_logits.update_state(labels, logits)
    for_probabilities.update_state(labels, keras.activations.softmax(ops.convert_to_tensor(logits)))
    assert float(for_logits.result()) == float(for_probabilities.result())


def test_many_classes_and_low_precision_predictions():
    labels = np.arange(300).repeat(3)
    logits = np.eye(300, dtype="float32")[labels]
    logits[::3] = np.roll(logits[::3], 1, axis=1)  # one of three is wrong
    metric = BalancedAccuracy()
    metric.update_state(labels, ops.cast(logits, "bfloat16"))
    np.testing.assert_allclose(float(metric.result()), 2 / 3, rtol=1e-5)


def test_float16_counts_beyond_its_range():
    metric = BalancedAccuracy(dtype="float16")
    for _ in range(3):
        # All but one of a thousand are right.
        metric.update_state([0, 0], [[0.0, 1.0], [1.0, 0.0]], sample_weight=[1, 999])
    assert "float16" in str(metric.result().dtype)
    np.testing.assert_allclose(float(metric.result()), 0.999, rtol=1e-3)
    assert float(np.max(ops.convert_to_numpy(metric.variables[1]))) == 3000


# --- Nothing to average ---------------------------------------------------------------------


def test_balanced_accuracy_before_any_sample_is_zero():
    assert float(BalancedAccuracy().result()) == 0
    assert float(BalancedAccuracy(num_classes=3).result()) == 0


def test_group_without_classes_is_nan(rng):
    metric = ShotAccuracy([5000, 50], "few")
    assert metric.classes == []
    metric.update_state([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    assert np.isnan(float(metric.result()))


def test_group_without_samples_is_nan_until_one_comes():
    metric = ShotAccuracy([500, 5], "few")
    assert np.isnan(float(metric.result()))
    metric.update_state([0, 0], [[1.0, 0.0]] * 2)
    assert np.isnan(float(metric.result()))
    metric.update_state([1, 1], [[0.0, 1.0]] * 2)
    assert float(metric.result()) == 1


def test_limits_of_the_groups():
    for shot, classes in GROUPS.items():
        assert ShotAccuracy(COUNTS, shot).classes == classes
    assert ShotAccuracy([9, 10, 20, 21, 0], "medium", many=20, few=10).classes == [1, 2]
    assert ShotAccuracy([9, 10, 20, 21, 0], "few", many=20, few=10).classes == [0, 4]


# --- State and configuration ----------------------------------------------------------------


def test_reset(rng):
    labels, logits = sample(rng)
    for metric in metrics():
        metric.update_state(labels[::-1], logits)
        metric.reset_state()
        assert all(not np.any(ops.convert_to_numpy(v)) for v in metric.variables)
    those = metrics()
    for metric in those:
        metric.update_state(labels[::-1], logits)
        metric.reset_state()
        metric.update_state(labels, logits)
    np.testing.assert_allclose(results(those), expected(labels, logits), rtol=1e-6)


def test_reset_before_the_first_batch():
    BalancedAccuracy().reset_state()


def test_names():
    assert [metric.name for metric in metrics()] == [
        "balanced_accuracy",
        "many_shot_accuracy",
        "medium_shot_accuracy",
        "few_shot_accuracy",
    ]
    assert ShotAccuracy(COUNTS, "few", name="tail").name == "tail"


@pytest.mark.parametrize(
    "metric",
    [
        BalancedAccuracy(),
        BalancedAccuracy(num_classes=8, name="b", dtype="float16"),
        ShotAccuracy(np.array(COUNTS), "medium", many=200, few=10),
        ShotAccuracy([1.5] * 8, "few", name="tail"),
    ],
    ids=lambda metric: metric.name,
)
def test_config_round_trip(rng, metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    assert config["registered_name"] == f"keras_lpl>{type(metric).__name__}"
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    labels, logits = sample(rng)
    metric.update_state(labels, logits)
    copy.update_state(labels, logits)
    assert copy.name == metric.name
    assert copy.dtype == metric.dtype
    np.testing.assert_equal(float(copy.result()), float(metric.result()))


def test_stateless_update(rng):
    labels, logits = sample(rng)
    metric = BalancedAccuracy(num_classes=8)
    variables = metric.stateless_update_state(metric.variables, labels, logits)
    result = float(metric.stateless_result(variables))
    np.testing.assert_allclose(result, naive(labels, logits, range(8)), rtol=1e-6)
    assert float(metric.result()) == 0


# --- In a model -----------------------------------------------------------------------------


def compiled(**kwargs):
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(8)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=metrics(),
        weighted_metrics=[BalancedAccuracy(name="weighted")],
        **kwargs,
    )
    return model


def test_fit_and_evaluate(rng):
    x = rng.normal(size=(50, 5)).astype("float32")
    y = rng.integers(0, 8, 50)
    weight = rng.uniform(0.1, 2, 50).astype("float32")
    data = {"x": x, "y": y, "sample_weight": weight, "batch_size": 25, "verbose": 0}
    model = compiled()
    # With a learning rate of 0 the two epochs score alike, and as predict does.
    history = model.fit(**data, epochs=2).history
    scores = model.evaluate(**data, return_dict=True)
    logits = model.predict(x, verbose=0)
    values = {
        metric.name: value for metric, value in zip(metrics(), expected(y, logits), strict=True)
    }
    values["weighted"] = naive(y, logits, range(8), weight)
    for name, value in values.items():
        np.testing.assert_allclose(history[name], value, rtol=1e-5)
        np.testing.assert_allclose(scores[name], value, rtol=1e-5)


def test_evaluate_eagerly_with_a_column_of_labels(rng):
    x = rng.normal(size=(20, 5)).astype("float32")
    y = rng.integers(0, 8, 20)
    model = compiled(run_eagerly=True)
    scores = model.evaluate(x, y[:, None], batch_size=20, verbose=0, return_dict=True)
    logits = model.predict(x, verbose=0)
    for metric, value in zip(metrics(), expected(y, logits), strict=True):
        np.testing.assert_allclose(scores[metric.name], value, rtol=1e-5)


def test_one_hot_labels_in_fit(rng):
    x = rng.normal(size=(50, 5)).astype("float32")
    y = rng.integers(0, 8, 50)
    model = compiled()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=metrics())
    scores = model.evaluate(x, np.eye(8)[y], batch_size=50, verbose=0, return_dict=True)
    value = naive(y, model.predict(x, batch_size=50, verbose=0), range(8))
    np.testing.assert_allclose(scores["balanced_accuracy"], value, rtol=1e-5)


def test_save_and_load(rng, tmp_path):
    x = rng.normal(size=(50, 5)).astype("float32")
    y = rng.integers(0, 8, 50)
    model = compiled()
    model.fit(x, y, batch_size=50, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    scores = model.evaluate(x, y, batch_size=50, verbose=0, return_dict=True)
    again = loaded.evaluate(x, y, batch_size=50, verbose=0, return_dict=True)
    assert set(again) == set(scores)
    for name, score in scores.items():
        np.testing.assert_allclose(again[name], score, rtol=1e-5)


# --- Bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [8, -1, 100])
def test_a_label_that_is_no_class_raises_where_it_is_seen(bad):
    logits = np.zeros((2, 8), "float32")
    for metric in metrics():
        with pytest.raises(ValueError, match=rf"must lie in \[0, 8\).*Received: y_true\[1\]={bad}"):
            metric.update_state([0, bad], logits)
    with pytest.raises(ValueError, match=r"whole class indices.*Received: y_true\[0\]=0\.5"):
        BalancedAccuracy().update_state([0.5, 1.0], logits)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly, and raises")
def test_a_label_that_is_no_class_gives_nan_in_compiled_code(rng):
    x = rng.normal(size=(20, 5)).astype("float32")
    y = rng.integers(0, 8, 20)
    weight = (np.arange(20) != 3).astype("float32")
    model = compiled()
    model.compile(
        loss=lambda y_true, y_pred: ops.mean(y_pred, -1),  # does not look at labels
        metrics=metrics(),
        weighted_metrics=[BalancedAccuracy(name="weighted")],
    )

    def scores(labels):
        return model.evaluate(x, labels, sample_weight=weight, verbose=0, return_dict=True)

    good = scores(y)
    for bad in (8, -1):
        wrong = scores(np.where(np.arange(20) == 3, bad, y))
        assert all(np.isnan(wrong[metric.name]) for metric in metrics())
        assert wrong["weighted"] == good["weighted"]  # there its weight is 0
        assert scores(y) == good  # not for good: the next evaluation starts anew


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        ([0, 1], (2,), r"known last axis. Received: an output of shape \(2,\)"),
        ([[0, 1]], (1, 4, 8), r"logits of shape \(1, 4, 8\).*Received: labels of shape \(1, 2\)"),
        (np.zeros((2, 3)), (2, 8), r"Received: labels of shape \(2, 3\)"),
    ],
)
def test_bad_shapes(labels, shape, message):
    with pytest.raises(ValueError, match=message):
        BalancedAccuracy().update_state(labels, np.zeros(shape, "float32"))


def test_another_number_of_classes():
    metric = ShotAccuracy([5, 5, 5], "few")
    with pytest.raises(
        ValueError, match=r"'few_shot_accuracy' counts 3 classes.*Received: .* of 4 classes"
    ):
        metric.update_state([0], np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((COUNTS, "rare"), r"`shot` must be one of.*Received: shot='rare'"),
        (([3, -1], "few"), r"`class_counts`.*Received: class_counts\[1\]=-1"),
        (([3, np.nan], "few"), r"`class_counts`.*Received"),
        (([3], "few"), r"at least two classes"),
        ((None, "few"), r"`class_counts`.*Received: class_counts=None"),
        ((COUNTS, "few", 10, 20), r"`few` must not exceed `many`.*Received: few=20, many=10"),
        ((COUNTS, "few", -1), r"`many` must be.*Received: many=-1"),
    ],
)
def test_bad_shot_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShotAccuracy(*arguments)


@pytest.mark.parametrize("num_classes", [1, 2.5, "3"])
def test_bad_num_classes(num_classes):
    with pytest.raises(ValueError, match=r"`num_classes` must be .*Received: num_classes="):
        BalancedAccuracy(num_classes=num_classes)
