"""The study: its arithmetic beside the library's losses, its trainer beside Keras, its numbers."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl

pytest.importorskip("sklearn")
if keras.config.backend() != "jax":
    pytest.skip("The study runs on JAX.", allow_module_level=True)

import jax.numpy as jnp

from examples.study import measures, report, runs, sets, tables
from examples.study.methods import (
    Method,
    expand,
    initial_statistics,
    lanes,
    loss_of_lanes,
    signed_bound,
)
from examples.study.trainer import Regime, Trainer, batches, initial_weights

COUNTS = [60, 20, 7, 2]


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 24)
    labels[:4] = range(4)
    return labels, generator.normal(size=(24, 4)).astype("float32")


def loss_of(method, labels, logits, progress=0.0):
    statistics = initial_statistics(int(method.bound is not None), len(COUNTS))
    settings = lanes([method], COUNTS)
    loss, after = loss_of_lanes(
        jnp.asarray(logits)[None], jnp.asarray(labels), settings, statistics, progress
    )
    return float(loss[0]), after


class WeightedCrossentropy:
    def __call__(self, labels, logits):
        weight = sum(COUNTS) / (4 * np.array(COUNTS))
        return keras_lpl.PerturbedCrossentropy([])(labels, logits, sample_weight=weight[labels])


@pytest.mark.parametrize(
    ("method", "loss"),
    [
        (Method("a"), keras_lpl.PerturbedCrossentropy([])),
        (Method("a", tau=1.5), keras_lpl.LogitAdjustmentLoss(COUNTS, tau=1.5)),
        (Method("a", tau=1.0, gamma=0.2), keras_lpl.VSLoss(COUNTS, gamma=0.2, tau=1.0)),
        (Method("a", ldam=True), keras_lpl.LDAMLoss(COUNTS)),
        (
            Method("a", weights="effective", focal=2.0),
            keras_lpl.ClassBalancedLoss(COUNTS, base="focal", gamma=2.0),
        ),
        (Method("a", weights="balanced"), WeightedCrossentropy()),
    ],
    ids=["cross-entropy", "LA", "VS", "LDAM", "class-balanced focal", "class weights"],
)
def test_a_lane_is_the_librarys_loss(method, loss, batch):
    labels, logits = batch
    expected = float(loss(labels, logits))
    np.testing.assert_allclose(loss_of(method, labels, logits)[0], expected, rtol=1e-4)


def softmax(u):
    e = np.exp(u - u.max())
    return e / e.sum()


def naive_lpl_loss(labels, logits, tau, bound, confidence):
    """One step of LPL on adjusted logits, sample by sample, in float64."""
    logits = logits.astype("float64") + tau * np.log(np.array(COUNTS) / sum(COUNTS))
    loss = 0.0
    for label, u in zip(labels, logits, strict=True):
        gradient = np.mean(
            [
                softmax(v) - np.eye(4)[label]
                for k, v in zip(labels, logits, strict=True)
                if k == label
            ],
            axis=0,
        )
        delta = bound[label] * confidence[label] * gradient / np.linalg.norm(gradient)
        loss -= np.log(softmax(u + delta)[label]) / len(labels)
    return loss


@pytest.mark.parametrize("rule", ["none", "running", "batch"])
def test_one_step_of_lpl_against_a_naive_loop(rule, batch):
    labels, logits = batch
    method = Method("a", tau=1.0, bound="logarithmic", kappa=2.0, rule=rule, power=3.0)
    logs = np.log(COUNTS)
    bound = 2 * (logs.mean() - logs)
    # In the first step the running confidence is that of the batch.
    q = [
        np.mean([softmax(u)[c] for k, u in zip(labels, logits, strict=True) if k == c])
        for c in range(4)
    ]
    confidence = np.ones(4) if rule == "none" else np.array(q) ** 3
    expected = naive_lpl_loss(labels, logits, 1.0, bound, confidence)
    np.testing.assert_allclose(loss_of(method, labels, logits)[0], expected, rtol=1e-4)


def test_running_confidence_is_the_librarys(batch):
    labels, logits = batch
    method = Method("a", bound="logarithmic", kappa=2.0, rule="running", power=3.0)
    layer = keras_lpl.layers.RunningClassConfidence(4)
    statistics = initial_statistics(1, 4)
    for scale, who in ((1.0, slice(0, 24)), (3.0, slice(4, 9)), (0.5, slice(9, 24))):
        layer.update(keras_lpl.read_output(labels[who], scale * logits[who]))
        _, statistics = loss_of_lanes(
            jnp.asarray(scale * logits[who])[None],
            jnp.asarray(labels[who]),
            lanes([method], COUNTS),
            statistics,
            0.0,
        )
    confidence = statistics["confidence"][0] / statistics["weight"]
    np.testing.assert_allclose(confidence, layer.confidence, rtol=1e-5)


def test_bounds():
    logarithmic = signed_bound(Method("a", bound="logarithmic", kappa=2.0), np.array(COUNTS))
    assert logarithmic.sum() == pytest.approx(0, abs=1e-9)
    assert (np.diff(logarithmic) > 0).all()
    ratio = signed_bound(Method("a", bound="ratio", kappa=5.0, head_scale=0.6), np.array(COUNTS))
    np.testing.assert_allclose(ratio, [-3.0, -3.0 * 20 / 60, 5.0 * 2 / 7, 5.0], rtol=1e-5)


def test_weights_begin_when_they_should(batch):
    labels, logits = batch
    method = Method("a", weights="balanced", weights_from=0.8)
    plain, _ = loss_of(Method("a"), labels, logits)
    weighted, _ = loss_of(Method("a", weights="balanced"), labels, logits)
    assert loss_of(method, labels, logits, progress=0.79)[0] == pytest.approx(plain)
    assert loss_of(method, labels, logits, progress=0.8)[0] == pytest.approx(weighted)
    assert plain != pytest.approx(weighted)


def test_expand_makes_one_method_of_each_value():
    methods = expand([{"name": "LPL", "bound": "logarithmic", "kappa": [1, 2]}, {"name": "LA"}])
    assert [method.name for method in methods] == ["LA", "LPL, kappa 1", "LPL, kappa 2"]
    with pytest.raises(ValueError, match="one name"):
        expand([{"name": "LA"}, {"name": "LA"}])


def keras_fit(x, rows, labels, regime, tau, weights):
    """The same training by Keras, batch by batch."""
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(regime.hidden, "relu"),
            keras.layers.Dense(4),
        ]
    )
    model.set_weights(
        [
            weights["hidden_kernel"][0].T,
            weights["hidden_bias"][0],
            weights["kernel"][0],
            weights["bias"][0],
        ]
    )
    order = batches(len(rows), regime, seed=5)
    schedule = keras.optimizers.schedules.CosineDecay(regime.learning_rate, len(order))
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=regime.weight_decay)
    model.compile(optimizer, keras_lpl.LogitAdjustmentLoss(COUNTS, tau=tau))
    for which in order:
        model.train_on_batch(x[rows[which]], labels[which])
    return model


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_trainer_against_keras(weight_decay):
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), COUNTS)
    x = (generator.normal(size=(len(labels), 6)) + labels[:, None]).astype("float32")
    rows = np.arange(len(labels))
    regime = Regime(epochs=4, hidden=8, weight_decay=weight_decay, learning_rate=0.01, batch=16)
    methods = [Method("cross-entropy"), Method("LA", tau=1.5)]
    trainer = Trainer(x, rows[None], labels[None], COUNTS, methods, regime, [5])
    weights = {name: value[0] for name, value in trainer.fit(chunks=3).items()}
    start = initial_weights(6, 4, 8, 2, seed=5)
    model = keras_fit(x, rows, labels, regime, 1.5, start)
    logits = trainer.logits(weights, rows)
    np.testing.assert_allclose(logits[1], model.predict(x, verbose=0), atol=2e-3)
    assert np.abs(logits[1] - logits[0]).max() > 0.1


def test_parts_of_a_split_have_nothing_in_common():
    split = sets.split("digits", [0, 1], imbalance=20)
    assert split.class_counts[0] > 15 * split.class_counts[-1]
    for seed in range(2):
        parts = [getattr(split, name)[0][seed] for name in ("train", "held_out", "test")]
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together)
        np.testing.assert_array_equal(np.bincount(split.train[1][seed]), split.class_counts)
    assert not np.array_equal(split.train[0][0], split.train[0][1])


def test_measures_of_known_predictions():
    labels = np.array([0, 0, 0, 1])
    logits = np.array([[[9.0, 0], [9, 0], [0, 9], [9, 0]], [[9, 0], [9, 0], [9, 0], [0, 9]]])
    found = measures.measure(logits, labels, [150, 10])
    np.testing.assert_allclose(found["balanced_accuracy"], [1 / 3, 1])
    np.testing.assert_allclose(found["accuracy"], [0.5, 1])
    np.testing.assert_allclose(found["macro_f1"], [2 / 6, 1])
    np.testing.assert_allclose(found["many_accuracy"], [2 / 3, 1])
    np.testing.assert_allclose(found["calibration_error"], [0.5, 0], atol=1e-3)
    assert found["medium_accuracy"] is None


def test_threshold_is_chosen_by_the_held_out_samples():
    score, labels = np.array([-3.0, -2, -1, 0]), np.array([0, 0, 1, 1])
    threshold = measures.choose_threshold(score, labels, measures._balanced)
    assert -2 < threshold < -1


def test_interval_is_students():
    from scipy import stats

    values = np.random.default_rng(0).normal(size=10)
    mean, width = report.interval(values)
    low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    np.testing.assert_allclose([mean - width, mean + width], [low, high], atol=2e-3)


def test_settings_are_chosen_on_held_out_samples_only():
    lane = {"family": "LA", "settings": {}}
    first = {**lane, "name": "LA, tau 1", "held_out_balanced_accuracy": [0.9, 0.1]}
    second = {**lane, "name": "LA, tau 2", "held_out_balanced_accuracy": [0.8, 0.2]}
    cell = report.Cell(
        "a",
        "fitted",
        {
            "LA, tau 1": first | {"balanced_accuracy": [0.3, 0.4]},
            "LA, tau 2": second | {"balanced_accuracy": [0.5, 0.6]},
        },
        [3, 2, 1],
    )
    np.testing.assert_allclose(cell.values("LA, chosen", "balanced_accuracy"), [30, 60])
    assert report.best_fixed(cell) == pytest.approx(55)


def test_ranks_share_ties():
    np.testing.assert_allclose(report._ranks(np.array([[3.0, 1.0, 3.0]])), [[2.5, 1.0, 2.5]])


RECIPE = """
seeds = 2
post_hoc = [1.0]
methods.main = [
    { name = "cross-entropy" },
    { name = "LA", tau = [1.0, 1.5] },
    { name = "LA + LPL", tau = 1.0, bound = "logarithmic", kappa = [1.0, 2.0] },
  { name = "LA + LPL, running", bound = "logarithmic", rule = "running", kappa = [2], power = [8] },
]
regimes.small.memorised = { epochs = 2, hidden = 4 }
sets = [
    { name = "digits", source = "digits", imbalance = 5, methods = ["main"], regimes = "small" },
    { name = "rare", source = "breast cancer", methods = ["main"], regimes = "small" },
]
"""


def test_from_a_recipe_to_tables_and_pictures(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    for cell in runs.load_recipe(recipe):
        path = runs.file_of(cell, tmp_path)
        runs.write(path, runs.run_cell(cell, {}, seeds_at_once=1))
    tables.write(tmp_path, recipe)
    text = (tmp_path / "tables.md").read_text()
    assert "| digits, memorised |" in text
    assert "| LA, chosen |" in text
    assert "average precision" in text
    for name in ("gains", "trade", "settings"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_seeds_at_once_do_not_matter():
    cell = {
        "split": {"source": "digits", "imbalance": 5},
        "seeds": 2,
        "training": {"epochs": 2, "hidden": 4},
        "methods": [{"name": "cross-entropy"}, {"name": "LA", "tau": 1.0}],
        "post_hoc": [1.0],
    }
    one, two = (runs.run_cell(cell, {}, seeds_at_once=number)["lanes"] for number in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(
            first["balanced_accuracy"], second["balanced_accuracy"], atol=0.005
        )


def test_the_page_shows_the_committed_results(tmp_path):
    docs = Path(__file__).parent.parent.parent / "docs"
    folder = tmp_path / "study"
    folder.mkdir()
    for file in (docs / "results" / "study").glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    page = tmp_path / "results.md"
    page.write_text((docs / "results.md").read_text())
    recipe = Path(tables.__file__).parent / "study.toml"
    tables.fill(page, folder, recipe)
    assert page.read_text() == (docs / "results.md").read_text()
