"""`LPLModel` on every output: pixels, tokens, one logit, several labels, several heads."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.callbacks import DeferredReweighting, LossVariation
from keras_lpl.metrics import BalancedAccuracy
from tests.models.helpers import assert_same_weights

COUNTS = (20, 8, 4)
LABEL_COUNTS = ((20, 12), (10, 22), (16, 16), (30, 2))


def inputs_and_hidden():
    inputs = keras.Input((6,))
    return inputs, keras.layers.Dense(8, activation="relu")(inputs)


def vectors(units):
    inputs, hidden = inputs_and_hidden()
    return inputs, keras.layers.Dense(units)(hidden)


def images(units=3):
    inputs = keras.Input((4, 4, 2))
    hidden = keras.layers.Conv2D(5, 3, padding="same", activation="relu")(inputs)
    return inputs, keras.layers.Conv2D(units, 1)(hidden)


def sequences(units=3):
    inputs = keras.Input((5,))
    hidden = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    hidden = keras.layers.LSTM(4, return_sequences=True)(hidden)
    return inputs, keras.layers.Dense(units)(hidden)


def data_of(output):
    rng = np.random.default_rng(0)
    if output == "pixels":
        y = rng.integers(0, 3, (8, 4, 4))
        y[:, 0] = 255
        return rng.normal(size=(8, 4, 4, 2)).astype("float32"), y
    if output == "tokens":
        x = rng.integers(1, 9, (8, 5))
        x[:, 3:] = 0
        return x, rng.integers(0, 3, (8, 5))
    x = rng.normal(size=(32, 6)).astype("float32")
    if output == "one logit":
        return x, (np.arange(32) % 3 == 2).astype("int32")
    return x, rng.integers(0, 2, (32, 4))


def counts_of(output):
    return {"one logit": (28, 4), "several labels": LABEL_COUNTS}.get(output, COUNTS)


def graph_of(output):
    return {
        "pixels": images,
        "tokens": sequences,
        "one logit": lambda: vectors(1),
        "several labels": lambda: vectors(4),
    }[output]()


def keywords_of(output):
    keywords = {"pixels": {"ignore_class": 255}, "several labels": {"multi_label": True}}
    return keywords.get(output, {})


def plain_loss(output):
    if output in ("one logit", "several labels"):
        return keras.losses.BinaryCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255 if output == "pixels" else None
    )


LOSSES = {
    "lpl by default": lambda c, **k: keras_lpl.LPLLoss(c, **k),
    "lpl by frequency": lambda c, **k: keras_lpl.LPLLoss(c, bound="ratio", **k),
    "lpl by confidence": lambda c, **k: keras_lpl.LPLLoss(**k),
    "la": lambda c, **k: keras_lpl.LogitAdjustmentLoss(c, **k),
    "isda": lambda c, **k: keras_lpl.ISDALoss(**k),
    "center": lambda c, **k: keras_lpl.CenterLoss(**k),
    "large margin": lambda c, **k: keras_lpl.LargeMarginLoss(2, annealing=5.0, **k),
}
OUTPUTS = ["pixels", "tokens", "one logit", "several labels"]
ONE_LABEL_ONLY = {"isda", "center", "large margin"}
CASES = [
    (output, loss)
    for output in OUTPUTS
    for loss in LOSSES
    if not (output == "several labels" and loss in ONE_LABEL_ONLY)
]


def compiled(output, loss="lpl by frequency", **keywords):
    keras.utils.set_random_seed(0)
    model = keras_lpl.LPLModel(*graph_of(output))
    loss = LOSSES[loss](counts_of(output), **keywords_of(output))
    metric = BalancedAccuracy(**keywords_of(output))
    keywords = {"optimizer": keras.optimizers.SGD(0.1), "metrics": [metric], **keywords}
    model.compile(loss=loss, **keywords)
    return model


def fit(model, x, y, **keywords):
    keywords = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False, **keywords}
    return model.fit(x, y, **keywords).history


@pytest.mark.shared_out
@pytest.mark.parametrize(("output", "loss"), CASES, ids=lambda value: str(value))
def test_trains_and_evaluates_as_plain_crossentropy(output, loss):
    x, y = data_of(output)
    model = compiled(output, loss)
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    history = fit(model, x, y, validation_data=(x, y))
    assert np.all(np.isfinite(history["loss"] + history["val_loss"])), history
    after = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert any(np.any(one != other) for one, other in zip(before, after, strict=True))
    plain = keras.Model(model.inputs, model.outputs[0])
    plain.compile(loss=plain_loss(output))
    expected = plain.evaluate(x, y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("output", OUTPUTS)
def test_save_load_continue(output, tmp_path):
    x, y = data_of(output)
    model = compiled(output)
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(restored, model)
    fit(model, x, y)
    fit(restored, x, y)
    assert_same_weights(restored, model, rtol=1e-5)


@pytest.mark.shared_out
@pytest.mark.parametrize("output", OUTPUTS)
def test_class_weights_and_loss_variation(output):
    """Deferred re-weighting is sample weights by class; the variation has one entry per class."""
    x, y = data_of(output)
    counts = counts_of(output)
    model = compiled(output, "la", optimizer=keras.optimizers.SGD(0.0))
    record = LossVariation(x, y)
    weights = np.arange(1.0, 1 + np.size(counts)).reshape(np.shape(counts))
    reweight = DeferredReweighting(counts, start_epoch=1, class_weight=weights)
    losses = fit(model, x, y, batch_size=len(x), callbacks=[reweight, record])["loss"]
    assert record.history[-1].shape == np.shape(counts)
    loss = LOSSES["la"](counts, reduction=None, **keywords_of(output))
    model.predict_on_batch(x)
    of_rows = ops.convert_to_numpy(loss(y, model(x)))
    kept = y != 255 if output == "pixels" else np.ones_like(y, bool)
    if output == "tokens":
        kept = x != 0
    if output == "several labels":
        # Each label has a loss and a weight of its own, and a sample the mean of them.
        one_by_one = [
            weights[i][y[:, i]]
            * ops.convert_to_numpy(
                LOSSES["la"](counts[i], reduction=None)(y[:, i], model(x)[:, i : i + 1])
            )
            for i in range(4)
        ]
        expected = np.mean(one_by_one)
    else:
        own = weights[np.where(kept, y, 0)]
        expected = (of_rows * own * kept).sum() / kept.sum()
    assert losses[1] == pytest.approx(expected, rel=1e-4)


def test_counts_that_do_not_fit_the_output_are_refused():
    x, y = data_of("several labels")
    model = keras_lpl.LPLModel(*vectors(4))
    model.compile("sgd", loss=keras_lpl.LogitAdjustmentLoss([5, 4, 3, 2], multi_label=True))
    with pytest.raises(ValueError, match=r"shape \(4, 2\) with `multi_label=True`.*Received: 4"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize("loss", ["ISDALoss", "CenterLoss", "LargeMarginLoss"])
def test_methods_of_one_label_refuse_several(loss):
    with pytest.raises(ValueError, match="no form for several labels"):
        getattr(keras_lpl, loss)(multi_label=True)


# --- Several outputs ---------------------------------------------------------------------------


def heads(kind):
    """A model of three outputs, its losses, labels and weights, as a dict or a list."""
    inputs, hidden = inputs_and_hidden()
    outputs = {
        "kind": keras.layers.Dense(3, name="kind")(hidden),
        "size": keras.layers.Dense(1, name="size")(hidden),
        "alarm": keras.layers.Dense(1, name="alarm")(hidden),
    }
    x, alarm = data_of("one logit")
    labels = {"kind": np.arange(32) % 3, "size": x[:, :1], "alarm": alarm}
    losses = {"kind": keras_lpl.ISDALoss(), "size": "mse", "alarm": keras_lpl.LPLLoss((28, 4))}
    weights = {name: np.linspace(0.5, 1.5, 32).astype("float32") for name in outputs}
    loss_weights = {"kind": 1.0, "size": 0.5, "alarm": 2.0}
    parts = [outputs, losses, labels, weights, loss_weights]
    if kind == "list":
        parts = [list(part.values()) for part in parts]
    keras.utils.set_random_seed(0)
    model = keras_lpl.LPLModel(inputs, parts[0])
    metrics = {"kind": [BalancedAccuracy()], "size": [], "alarm": [BalancedAccuracy()]}
    model.compile(
        keras.optimizers.SGD(0.05),
        loss=parts[1],
        loss_weights=parts[4],
        metrics=metrics if kind == "dict" else list(metrics.values()),
    )
    return model, x, parts[2], parts[3]


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_several_outputs_train_save_and_continue(kind, tmp_path):
    model, x, labels, weights = heads(kind)
    history = fit(model, x, labels, sample_weight=weights, validation_data=(x, labels))
    assert np.all(np.isfinite(history["loss"])), history
    assert {"kind_loss", "size_loss", "alarm_loss", "kind_balanced_accuracy"} <= set(history)
    shapes = {name: tuple(each.shape) for name, each in model.confidence.items()}
    assert shapes["kind"] == (3,)
    assert shapes["alarm"] == (2,)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(restored, model)
    fit(model, x, labels, sample_weight=weights)
    fit(restored, x, labels, sample_weight=weights)
    assert_same_weights(restored, model, rtol=1e-5)


def test_an_output_trains_as_it_does_alone():
    """Its statistics and loss are those of a model of this output only."""
    model, x, labels, _ = heads("dict")
    inputs, outputs = model.inputs, model._outputs_struct
    alone = keras_lpl.LPLModel(inputs, outputs["alarm"])
    alone.compile(keras.optimizers.SGD(0.0), loss=keras_lpl.LPLLoss())
    together = keras_lpl.LPLModel(inputs, outputs)
    together.compile(
        keras.optimizers.SGD(0.0),
        loss={"kind": keras_lpl.LPLLoss(), "size": "mse", "alarm": keras_lpl.LPLLoss()},
    )
    of_alone = fit(alone, x, labels["alarm"])["loss"]
    of_together = fit(together, x, labels)["alarm_loss"]
    np.testing.assert_allclose(of_together, of_alone, rtol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(together.confidence["alarm"]),
        ops.convert_to_numpy(alone.confidence),
        rtol=1e-5,
    )


def test_looking_at_one_of_several_outputs():
    model, x, labels, _ = heads("dict")
    fit(model, x, labels)
    logits, perturbed = model.perturb_on_batch(x, labels["kind"], output="kind")
    assert logits.shape == perturbed.shape == (32, 3)
    assert model.perturb_on_batch(x, labels["alarm"], output="alarm")[1].shape == (32, 2)
    with pytest.raises(ValueError, match=r"pass `output=`, one of \['alarm', 'kind', 'size'\]"):
        model.perturb_on_batch(x, labels["kind"])
    reweight = DeferredReweighting(COUNTS, start_epoch=1, output="kind")
    record = LossVariation(x, labels["alarm"], output="alarm")
    record.batches = [(x, labels)]
    fit(model, x, labels, callbacks=[reweight, record])
    assert record.history[-1].shape == (2,)


@pytest.mark.parametrize("named", ["output", "layer"])
def test_one_output_named_in_a_dict(named):
    x, y = data_of("one logit")
    inputs, hidden = inputs_and_hidden()
    logit = keras.layers.Dense(1, name="head")(hidden)
    outputs, name = ({"alarm": logit}, "alarm") if named == "output" else (logit, "head")
    model = keras_lpl.LPLModel(inputs, outputs)
    model.compile("sgd", loss={name: keras_lpl.LPLLoss((28, 4))})
    assert np.all(np.isfinite(fit(model, x, {name: y})["loss"]))


# --- A training step of the user's own ------------------------------------------------------------


def test_a_train_step_of_ones_own_is_not_lost_in_silence():
    class OwnStep(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    with pytest.raises(ValueError, match=r"`train_step` of its own.*Received: OwnStep.train_step"):
        keras_lpl.LPLModel.from_model(OwnStep(*vectors(3)))


def test_a_subclass_may_have_a_train_step_that_reads_features():
    steps = []

    @keras.saving.register_keras_serializable("keras_lpl_tests")
    class Counted(keras_lpl.LPLModel):
        def train_step(self, *args):
            steps.append(1)
            return super().train_step(*args)

    x, y = data_of("one logit")
    model = Counted(*vectors(1))
    model.compile("sgd", loss=keras_lpl.ISDALoss())
    assert np.all(np.isfinite(fit(model, x, y)["loss"]))
    assert steps


def test_compute_loss_outside_of_a_step_says_what_to_do():
    x, y = data_of("one logit")
    model = keras_lpl.LPLModel(*vectors(1))
    model.compile("sgd", loss=keras_lpl.ISDALoss())
    with pytest.raises(ValueError, match=r"with model.training_step\(\)"):
        model.compute_loss(x, y, model(x, training=True))
    with model.training_step():
        loss = model.compute_loss(x, y, model(x, training=True))
    assert np.isfinite(float(loss))


def test_a_softmax_at_the_end_is_taken_if_the_loss_knows():
    x, y = data_of("one logit")
    inputs, logit = vectors(1)
    model = keras_lpl.LPLModel(inputs, keras.layers.Activation("sigmoid")(logit))
    with pytest.raises(ValueError, match=r"pass `from_logits=False` to the loss. Received"):
        model.compile("sgd", loss=keras_lpl.LPLLoss((28, 4)))
    counts = (28, 4)
    model.compile(
        keras.optimizers.SGD(0.0), loss=keras_lpl.LogitAdjustmentLoss(counts, from_logits=False)
    )
    of_probabilities = fit(model, x, y, epochs=1)["loss"]
    same = keras_lpl.LPLModel(inputs, logit)
    same.compile(keras.optimizers.SGD(0.0), loss=keras_lpl.LogitAdjustmentLoss(counts))
    np.testing.assert_allclose(of_probabilities, fit(same, x, y, epochs=1)["loss"], rtol=1e-4)
