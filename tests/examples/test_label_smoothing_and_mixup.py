"""The example of soft labels: it runs, writes what it did, and makes the labels that it names."""

import json
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("rich", reason="the examples show their progress with it")


@pytest.fixture
def example():
    import label_smoothing_and_mixup

    return label_smoothing_and_mixup


def test_runs_and_writes_its_results(example, monkeypatch, tmp_path, capsys):
    arguments = ["--epochs", "2", "--seeds", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["label_smoothing_and_mixup.py", *arguments])
    example.main()
    shown = capsys.readouterr().out
    (file,) = tmp_path.glob("*.json")
    results = json.loads(file.read_text())
    assert all(kind in shown for kind in example.LABELS)
    assert [run["method"] for run in results["runs"]] == list(example.LABELS)
    assert results["settings"]["loss"] == "LPL"
    assert results["environment"]["backend"] == keras.config.backend()
    for run in results["runs"]:
        assert 0 <= run["balanced_error"] <= 1
        assert np.isfinite(run["training_loss"])
        assert len(run["class_accuracy"]) == len(run["class_counts"]) == 10


def epochs_of(data, count=2):
    """The images and labels of some epochs, in order."""
    for _ in range(count):
        batches = [data[i] for i in range(len(data))]
        yield [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        data.on_epoch_end()


def data():
    labels = np.repeat(np.arange(10), 15)
    # An image is its label in grey, so that it shows what it was mixed from.
    return (labels[:, None, None, None] * np.ones((1, 8, 8, 1))).astype("float32"), labels


def test_smoothed_labels(example):
    images, labels = data()
    _, smooth = next(epochs_of(example.training_data("label smoothing", images, labels, seed=0)))
    np.testing.assert_allclose(np.sort(smooth, axis=-1)[0], [0.01] * 9 + [0.91], rtol=1e-6)
    np.testing.assert_allclose(smooth.sum(axis=0), 15, rtol=1e-5)


def test_mixed_images_have_the_labels_they_are_mixed_from(example):
    images, labels = data()
    first, second = epochs_of(example.training_data("MixUp", images, labels, seed=0))
    for mixed, soft in (first, second):
        assert soft.shape == (150, 10)
        np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-5)
        np.testing.assert_allclose(mixed[:, 0, 0, 0], soft @ np.arange(10), rtol=1e-4, atol=1e-5)
        assert 0.05 < np.mean(soft.max(axis=-1) < 0.95) < 0.95, "some are mixed, some are not"
    assert not np.array_equal(first[1], second[1]), "every epoch is mixed anew"
    again, _ = epochs_of(example.training_data("MixUp", images, labels, seed=0))
    np.testing.assert_array_equal(again[1], first[1])
