"""The example of a DataLoader: it trains on what the loader shows."""

import json
import sys

import keras
import numpy as np
import pytest

import keras_lpl

torch = pytest.importorskip("torch", reason="the loader is PyTorch's")
pytest.importorskip("rich", reason="the examples show their tables with it")


@pytest.fixture
def example():
    import torch_dataloader

    return torch_dataloader


def test_trains_on_a_loader(example, monkeypatch, tmp_path, capsys):
    arguments = ["--epochs", "15", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["torch_dataloader.py", *arguments])
    example.main()
    shown = capsys.readouterr().out
    assert "by class: [134, 86, 56, 36, 23, 15, 9, 6, 4, 2]" in shown
    assert shown.count("val_balanced_accuracy") == 15
    (file,) = tmp_path.glob("*.json")
    (run,) = json.loads(file.read_text())["runs"]
    assert run["many_shot_accuracy"] > 0.9
    assert run["balanced_error"] < 0.6, "a guess has 0.9"


def test_images_are_moved_for_training_only(example):
    x = np.zeros((300, 8, 8, 1), "float32")
    x[:, 4, 4] = 1
    y = np.arange(300) % 10
    at = []
    for moves in (False, True):
        images = np.stack([image.numpy() for image, _ in example.Images(x, y, moves)])
        assert images.shape == x.shape
        places = np.argwhere(images[..., 0])
        at.append({tuple(place) for place in places[:, 1:].tolist()})
    still, moved = at
    assert still == {(4, 4)}
    assert moved == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}


def test_counts_are_of_what_the_loader_shows(example):
    labels = np.repeat([0, 1], [190, 10])
    images = example.Images(np.zeros((200, 8, 8, 1), "float32"), labels, moves=False)
    plain = torch.utils.data.DataLoader(images, batch_size=64, shuffle=True)
    assert keras_lpl.data.class_counts(plain).tolist() == [190, 10]
    keras.utils.set_random_seed(0)
    sampler = torch.utils.data.WeightedRandomSampler(1 / np.where(labels, 10, 190), 200)
    drawn = torch.utils.data.DataLoader(images, batch_size=64, sampler=sampler)
    assert abs(keras_lpl.data.class_counts(drawn)[1] - 100) < 40
