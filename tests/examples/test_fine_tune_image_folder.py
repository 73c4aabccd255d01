"""The fine-tuning example: what each phase trains, and the model that it leaves."""

import json
import sys

import keras
import numpy as np
import pytest

import keras_lpl

image = pytest.importorskip("PIL.Image", reason="the images are files")
pytest.importorskip("rich", reason="the examples show their tables with it")
TRAIN_COUNTS = {"dark": 12, "grey": 24, "light": 4}


@pytest.fixture
def example():
    import fine_tune_image_folder

    return fine_tune_image_folder


@pytest.fixture
def folder(tmp_path):
    """Grey images; the most frequent class is not the first one."""
    rng = np.random.default_rng(0)
    for part, counts in (("train", TRAIN_COUNTS), ("test", dict.fromkeys(TRAIN_COUNTS, 5))):
        for label, (name, count) in enumerate(counts.items()):
            place = tmp_path / "shades" / part / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (32, 32)) + 90 * label
                image.fromarray(pixels.astype("uint8")).save(place / f"{index}.png")
    return tmp_path / "shades"


@pytest.fixture
def weights(tmp_path):
    """A file of weights whose features do not vanish: the averages are those of some images."""
    backbone = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    backbone(np.random.default_rng(1).uniform(0, 255, (64, 32, 32, 3)), training=True)
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    return tmp_path / "backbone.weights.h5"


def run(example, monkeypatch, folder, out, weights):
    """Runs the example. Returns its model, and what `compile_model` was called with."""
    seen, compile_model = [], example.compile_model

    def watched(model, learning_rate, class_counts):
        seen.append((learning_rate, class_counts.tolist(), values(model)))
        compile_model(model, learning_rate, class_counts)
        models.append(model)

    models = []
    arguments = [folder, "--weights", weights, "--epochs", 1, 2, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(example, "compile_model", watched)
        patch.setattr(sys, "argv", ["fine_tune_image_folder.py", *map(str, arguments)])
        example.main()
    return models[-1], seen


def values(model):
    return {variable.path: np.array(variable) for variable in model.variables}


def changed(before, after):
    return {path for path in before if (before[path] != after[path]).any()}


def test_what_each_phase_trains(example, folder, weights, monkeypatch, tmp_path, capsys):
    model, seen = run(example, monkeypatch, folder, tmp_path, weights)
    (first_rate, counts, start), (second_rate, _, middle) = seen
    end = values(model)
    assert counts == list(TRAIN_COUNTS.values())
    assert second_rate == pytest.approx(0.01 * first_rate)
    assert isinstance(model, keras_lpl.LPLModel)
    assert isinstance(model.loss, keras_lpl.LPLLoss)

    backbone = {path for path in start if path.startswith(("conv", "expanded_conv"))}
    normalization = {path for path in backbone if "_bn/" in path}
    head = {path for path in start if path.startswith("dense")}
    assert len(head) == 2
    assert len(normalization) > 100
    assert head <= changed(start, middle)
    assert not backbone & changed(start, middle), "the backbone rests in phase 1"
    assert head <= changed(middle, end)
    assert backbone & changed(middle, end) == backbone - normalization

    shown = capsys.readouterr().out
    assert "by class: [12, 24, 4]" in shown
    assert shown.count("val_few_shot_accuracy") == 3
    assert "many_shot" not in shown, "no class has more than 100 images"
    assert "Epoch 3/3" in shown

    (result,) = json.loads((tmp_path / "result.json").read_text())["runs"]
    assert len(result["class_accuracy"]) == 3
    restored = keras.saving.load_model(tmp_path / "model.keras")
    (x, _), _ = example.load(folder)
    assert x.shape == (40, 32, 32, 3)
    np.testing.assert_allclose(
        restored.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_random_weights_need_averages(example, folder, monkeypatch, tmp_path):
    model, (_, (_, _, middle)) = run(example, monkeypatch, folder, tmp_path, "none")
    assert any("moving_mean" in path for path in changed(middle, values(model)))


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ConvNeXtTiny"])
def test_every_backbone_takes_images_of_0_to_255(example, name):
    assert name in example.BACKBONES
    model, backbone = example.build(name, None, (32, 32, 3), 4)
    assert model.output_shape == (None, 4)
    assert any(
        isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
        for layer in backbone.layers[:3]
    )
