"""The CIFAR example: interrupted and resumed, it comes to the result of a run left alone."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")


@pytest.fixture
def example():
    import cifar_lt

    return cifar_lt


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    y_train, y_test = np.repeat([0, 1, 2], 24), np.repeat([0, 1, 2], 6)
    images = {
        f"x_{part}": (rng.integers(0, 128, (len(y), 8, 8, 3)) + 60 * y[:, None, None, None]).astype(
            "uint8"
        )
        for part, y in (("train", y_train), ("test", y_test))
    }
    path = tmp_path / "tiny.npz"
    np.savez(path, y_train=y_train, y_test=y_test, **images)
    return path


def run(example, monkeypatch, data, out, method="LPL"):
    arguments = ["--data", data, "--imbalance", "4", "--depth", "8", "--epochs", "4"]
    arguments += ["--batch-size", "16", "--method", method, "--out", out]
    monkeypatch.setattr(sys, "argv", ["cifar_lt.py", *map(str, arguments)])
    example.main()
    (file,) = out.glob("*.json")
    return json.loads(file.read_text())


def test_resumes_where_it_stopped(example, monkeypatch, data, tmp_path, capsys):
    from reproduction import training

    whole = run(example, monkeypatch, data, tmp_path / "whole")
    assert [len(whole["curve"]), whole["config"]["training"]["epochs"]] == [4, 4]
    assert not list((tmp_path / "whole").glob("*/*.keras")), "the model of a finished run is left"

    end = training.SaveEachEpoch.on_epoch_end

    def stop_after_two(self, epoch, logs=None):
        end(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(training.SaveEachEpoch, "on_epoch_end", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            run(example, monkeypatch, data, out)
    assert not list(out.glob("*.json"))
    capsys.readouterr()
    resumed = run(example, monkeypatch, data, out)
    assert "epoch 2/4" not in (said := capsys.readouterr().out)
    assert "epoch 3/4" in said
    for one, other in zip(whole["curve"], resumed["curve"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert resumed["class_counts"] == whole["class_counts"] == [24, 12, 6]
    assert resumed["config"]["data"]["name"] == "tiny"  # no path of this machine

    again = run(example, monkeypatch, data, out)
    assert again == resumed
    assert "min left" not in capsys.readouterr().out


def test_a_lost_run_says_so_and_writes_no_result(example, monkeypatch, data, tmp_path):
    from reproduction import training

    monkeypatch.setattr(training, "learning_rate", lambda epoch, settings: 1e30)
    with pytest.raises(RuntimeError, match="NaN after epoch"):
        run(example, monkeypatch, data, tmp_path)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("name", ["none", "standard", "modern", "mixup", "cutmix"])
def test_augmentations(example, name):
    from methods import METHODS
    from reproduction import augmentation

    rng = np.random.default_rng(0)
    y = np.arange(32) % 4
    x = (rng.integers(0, 60, (32, 8, 8, 3)) + 60 * y[:, None, None, None]).astype("uint8")
    settings = {"batch_size": 16, "augmentation": name}
    train, test = augmentation.pipelines((x, y), (x, y), METHODS["LPL"], settings, seed=0)
    batches = list(train.as_numpy_iterator())
    assert [images.shape for images, _ in batches] == [(16, 8, 8, 3)] * 2
    (images, labels), (plain, _) = batches[0], next(iter(test.as_numpy_iterator()))
    assert np.isfinite(images).all()
    assert abs(images.mean()) < 1.5  # normalised, whatever was done to them
    if name in ("mixup", "cutmix"):
        np.testing.assert_allclose(labels.sum(axis=1), 1.0, rtol=1e-5)
        assert ((labels > 0.01) & (labels < 0.99)).any()
    else:
        assert sorted(np.concatenate([labels for _, labels in batches])) == sorted(y)
    seen = {image.round(3).tobytes() for image in plain}
    unchanged = sum(image.round(3).tobytes() in seen for image in images)
    assert (unchanged == len(images)) if name == "none" else (unchanged < len(images))
