"""The CIFAR example: interrupted and resumed, it comes to the result of a run left alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the input pipeline is tf.data")
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
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
    whole = run(example, monkeypatch, data, tmp_path / "whole")
    assert [len(whole["curve"]), whole["arguments"]["epochs"]] == [4, 4]
    assert not list((tmp_path / "whole").glob("*/*.keras")), "the model of a finished run is left"

    show = example.ShowEpoch.on_epoch_end

    def stop_after_two(self, epoch, logs=None):
        show(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(example.ShowEpoch, "on_epoch_end", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            run(example, monkeypatch, data, out)
    assert not list(out.glob("*.json"))
    resumed = run(example, monkeypatch, data, out)
    assert "going on after epoch 2" in capsys.readouterr().out
    for one, other in zip(whole["curve"], resumed["curve"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert resumed["class_counts"] == whole["class_counts"] == [24, 12, 6]

    again = run(example, monkeypatch, data, out)
    assert again == resumed
    assert "already there" in capsys.readouterr().out
