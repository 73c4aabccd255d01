"""The generators: their two losses do not mix, they learn, and their images come into batches."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from reporting import mean_and_spread
from reproduction import generators

import keras_lpl
from keras_lpl import engines

SHAPE, CLASSES = (8, 8, 1), 3


@pytest.fixture
def batch(rng):
    images = rng.uniform(-1, 1, size=(6, *SHAPE)).astype("float32")
    return images, np.arange(6, dtype="int32") % CLASSES


def gradients(model, variables, loss):
    """Gradients of `loss()` by variables, as a training step computes them."""

    def of_values(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss()

    found = engines.gradients_of(of_values, [v.value for v in variables])[1]
    return [ops.convert_to_numpy(each) for each in found]


@pytest.mark.parametrize("kind", generators.KINDS)
def test_each_part_descends_its_own_loss(kind, batch, rng):
    keras.utils.set_random_seed(1)
    model = generators.ConditionalGAN(kind, SHAPE, CLASSES, width=4)
    images, labels = batch
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    noise = rng.normal(size=(6, generators.NOISE)).astype("float32")
    codes = rng.uniform(-1, 1, size=(6, generators.CODES)).astype("float32")
    images, one_hot, noise, codes = map(ops.convert_to_tensor, (images, one_hot, noise, codes))
    # Away from the start, at which biases are zero.
    for variable in model.trainable_variables:
        variable.assign(variable + 0.05 * rng.normal(size=variable.shape).astype("float32"))

    def fake():
        return model.generator([noise, codes, one_hot], training=False)

    def crossentropy(logits):
        return -ops.mean(ops.sum(one_hot * ops.log_softmax(logits), axis=-1))

    def of_both():
        return model.compute_loss(x=(images, labels), y_pred=(fake(), codes), training=False)

    def of_discriminator():
        real = model.judged(images, one_hot)
        made = model.judged(ops.stop_gradient(fake()), one_hot)
        assert real["real"].shape == (6, 1)
        of_fake = ops.log(1 - ops.sigmoid(made["real"]))
        loss = ops.mean(-ops.log(ops.sigmoid(real["real"])) - of_fake)
        if kind != "CGAN":
            share = 1.0 if kind == "ACGAN" else generators.REAL_SHARE_OF_INFOGAN
            loss = loss + crossentropy(made["classes"]) + share * crossentropy(real["classes"])
        return loss + ops.mean((made["codes"] - codes) ** 2) if kind == "infoGAN" else loss

    def of_generator():
        made = model.judged(fake(), one_hot)
        loss = -ops.mean(ops.log(ops.sigmoid(made["real"])))
        if kind != "CGAN":
            loss = loss + crossentropy(made["classes"])
        return loss + ops.mean((made["codes"] - codes) ** 2) if kind == "infoGAN" else loss

    for part, loss in (
        (model.discriminator, of_discriminator),
        (model.generator, of_generator),
    ):
        variables = part.trainable_variables
        expected = gradients(model, variables, loss)
        for one, other in zip(gradients(model, variables, of_both), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert any(np.abs(each).max() > 1e-4 for each in expected)


@pytest.mark.parametrize("kind", generators.KINDS)
def test_trains_and_generates_on_the_scale_of_the_data(kind, batch):
    images, labels = batch
    x, y = generators.generated(
        kind, (images + 1) * 127.5, labels, size=9, epochs=1, width=4, batch_size=3
    )
    assert x.shape == (9, *SHAPE)
    assert 0 <= x.min() < x.max() <= 255
    np.testing.assert_array_equal(np.bincount(y), [3, 3, 3])


@pytest.mark.on_one_backend
def test_a_classifier_names_what_was_asked_for():
    (x, y), _ = keras_lpl.data.load("digits")
    x, y = x[y < 3], y[y < 3]
    made, asked = generators.generated("ACGAN", x, y, size=90, epochs=30, width=16)
    # The nearest real image, in place of a classifier.
    distance = ((made.reshape(90, 1, -1) - x.reshape(1, len(x), -1)) ** 2).sum(axis=-1)
    assert np.mean(y[distance.argmin(axis=1)] == asked) > 0.8


def test_images_of_32_pixels():
    model = generators.ConditionalGAN("CGAN", (32, 32, 3), 10, width=4)
    assert model.generate([0, 9]).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("GAN", SHAPE), "CGAN.*Received: kind='GAN'"), (("CGAN", (9, 8, 1)), r"\(9, 8, 1\)")],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generators.ConditionalGAN(*arguments, CLASSES)


def test_a_share_of_each_batch_is_generated(batch):
    x, y = np.zeros((20, *SHAPE), "float32"), np.arange(20) % CLASSES
    made = (np.ones((5, *SHAPE), "float32"), np.full(5, 2))
    arrays = keras_lpl.data.ArrayDataset(x, y, 8)
    batches = generators.WithGenerated(arrays, made, share=0.25, seed=3)
    sizes = []
    for images, labels in (batches[index] for index in range(len(batches))):
        is_made = images[:, 0, 0, 0] == 1
        sizes.append((len(images), is_made.sum()))
        assert (labels[is_made] == 2).all()
    assert sizes == [(8, 2), (8, 2), (4, 1)]
    np.testing.assert_array_equal(batches[1][0], batches[1][0])
    assert not x.any(), "the arrays are left alone"


def test_a_run_trains_its_generator_once_and_in_single_precision(batch, tmp_path, monkeypatch):
    from methods import METHODS
    from reproduction import training

    config = {"seed": 0, "training": {"generator_epochs": 1}}
    images, labels = batch
    data = (np.repeat(images, 4, axis=0), np.repeat(labels, 4))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        x, y = training.generated_images(METHODS["ACGAN"], config, tmp_path, *data)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert x.dtype == "float32"
    assert len(x) == len(y) == 6
    monkeypatch.setattr(generators, "generated", None)
    again = training.generated_images(METHODS["ACGAN"], config, tmp_path, *data)
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_array_equal(again[1], y)


def test_the_page_shows_what_was_measured():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "methods" / "generated-images.md").read_text()
    for backend in ("jax", "tensorflow"):
        rows = json.loads((docs / "results" / "generators" / f"{backend}.json").read_text())["rows"]
        for kind in generators.KINDS:
            own = [row["named_as_asked"] for row in rows if row["kind"] == kind]
            shown = mean_and_spread(own) if backend == "jax" else f"{100 * own[0]:.1f}"
            assert shown in page, (backend, kind, shown)


def test_a_share_of_each_batch_of_a_pipeline_is_generated():
    pytest.importorskip("tensorflow")
    from methods import METHODS
    from reproduction import augmentation

    x, y = np.zeros((20, *SHAPE), "float32"), np.arange(20) % CLASSES
    x[0, 0, 0, 0] = 255  # a contrast to normalise by
    made = (np.full((7, *SHAPE), 255.0, "float32"), np.full(7, 2))
    training = {"batch_size": 10, "augmentation": "none"}
    batches, _ = augmentation.pipelines(
        (x, y), (x, y), METHODS["CGAN"], training, seed=0, generated=made
    )
    sizes = [(len(images), int((images.numpy()[:, 4, 4, 0] > 1).sum())) for images, _ in batches]
    assert sizes == [(10, 2), (10, 2), (6, 2)]
