"""The fine-tuning example: it runs, writes what it did, and fine-tunes from the same weights."""

import json
import sys

import keras
import pytest

pytest.importorskip("rich", reason="the examples show their progress with it")


@pytest.fixture
def example():
    import class_balanced_fine_tuning

    return class_balanced_fine_tuning


def run(example, monkeypatch, out, epochs, fine_tuning_epochs, sampling="class_balanced"):
    arguments = ["--epochs", epochs, "--fine-tuning-epochs", fine_tuning_epochs]
    arguments += ["--seeds", 2, "--sampling", sampling, "--out", out]
    monkeypatch.setattr(sys, "argv", ["class_balanced_fine_tuning.py", *map(str, arguments)])
    example.main()
    (file,) = out.glob("*.json")
    return json.loads(file.read_text())


def test_runs_and_writes_its_results(example, monkeypatch, tmp_path, capsys):
    results = run(example, monkeypatch, tmp_path, 3, 2, "reversed")
    shown = capsys.readouterr().out
    methods = ["before", "more, as is", "reversed"]
    assert all(method in shown for method in methods)
    assert [run["method"] for run in results["runs"]] == 2 * methods
    assert [run["seed"] for run in results["runs"]] == [0, 0, 0, 1, 1, 1]
    assert results["settings"]["fine_tuning_epochs"] == 2
    assert results["environment"]["backend"] == keras.config.backend()
    for run_ in results["runs"]:
        assert 0 <= run_["balanced_error"] <= 1
        assert len(run_["class_accuracy"]) == len(run_["class_counts"]) == 10


def test_fine_tuning_starts_from_the_weights_of_the_first_phase(example, monkeypatch, tmp_path):
    monkeypatch.setattr(example, "FINE_TUNING_LEARNING_RATE", 1e-12)
    results = run(example, monkeypatch, tmp_path, 3, 1)
    for seed in (0, 1):
        before, *after = (r["class_accuracy"] for r in results["runs"] if r["seed"] == seed)
        assert after == [before, before]
