"""The keras-cv example: its backbone is trained by LPL, on images that RandAugment has changed."""

import json
import sys

import keras
import numpy as np
import pytest

import keras_lpl

pytest.importorskip("rich", reason="the examples show their tables with it")


@pytest.fixture
def example():
    # Here, as importing it takes seconds, and loads TensorFlow.
    pytest.importorskip("keras_cv", reason="keras-cv is an extra")
    import keras_cv_backbone

    return keras_cv_backbone


@pytest.fixture
def data(tmp_path):
    """The class can be told from the brightness; grey, to be made colour images."""
    rng = np.random.default_rng(0)
    y_train, y_test = np.repeat([0, 1, 2], 24), np.repeat([0, 1, 2], 6)
    images = {
        f"x_{part}": (rng.integers(0, 30, (len(y), 16, 16, 1)) + 90 * y[:, None, None, None])
        for part, y in (("train", y_train), ("test", y_test))
    }
    path = tmp_path / "tiny.npz"
    np.savez(path, y_train=y_train, y_test=y_test, **images)
    return path


def test_the_backbone_is_trained_with_lpl(example, data, monkeypatch, tmp_path, capsys):
    made, before, classifier = [], [], example.classifier

    class Watched(keras_lpl.LPLModel):
        def fit(self, *args, **kwargs):
            made.append(self)
            return super().fit(*args, **kwargs)

    def watched(*arguments):
        model = classifier(*arguments)
        before.extend(np.array(weights) for weights in model.get_weights())
        return model

    monkeypatch.setattr(keras_lpl, "LPLModel", Watched)
    monkeypatch.setattr(example, "classifier", watched)
    arguments = ["--data", data, "--imbalance", "4", "--epochs", "2", "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["keras_cv_backbone.py", *map(str, arguments)])
    example.main()

    (model,) = made
    assert isinstance(model.loss, keras_lpl.LPLLoss)
    assert any(isinstance(x, example.keras_cv.models.ResNetBackbone) for x in model.layers)
    changed = [(a != b).any() for a, b in zip(before, model.get_weights(), strict=False)]
    assert len(changed) > 30
    assert all(changed), "every layer of the backbone is trained, and its averages are updated"
    shown = capsys.readouterr().out
    assert shown.count("val_balanced_accuracy") == 2
    assert "tiny, imbalance factor 4" in shown
    (run,) = json.loads((tmp_path / f"{keras.config.backend()}.json").read_text())["runs"]
    assert len(run["class_accuracy"]) == 3


def test_images_are_in_colour_and_augmented(example, data):
    (x, y), (x_test, _) = example.load(data, 4)
    assert (x.shape, x_test.shape) == ((24 + 12 + 6, 16, 16, 3), (18, 16, 16, 3))
    assert x.dtype == np.uint8
    known = {image.tobytes() for image in x}
    augmented = example.training_data(x, y, magnitude=0.5)
    images, labels = next(iter(augmented.as_numpy_iterator()))
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(y))
    assert 0 <= images.min() <= images.max() <= 255
    same = np.mean([image.round().astype("uint8").tobytes() in known for image in images])
    assert same < 0.5


def test_digits_are_made_larger(example):
    (x, _), _ = example.load("digits", 50)
    (digits, _), _ = keras_lpl.data.load("digits", 50)
    assert x.shape == (371, 32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(x[:, ::4, ::4, channel], (255 * digits[..., 0]).astype(int))
