"""The search: it starts at the defaults, goes on where it stopped, and sees no test image."""

import json
import sys

import numpy as np
import pytest

import keras_lpl

pytest.importorskip("keras_tuner", reason="the search is KerasTuner's")
pytest.importorskip("rich", reason="the examples show their tables with it")
# KerasTuner's own.
pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName):DeprecationWarning")


@pytest.fixture
def example():
    import tune

    return tune


def run(example, monkeypatch, out, trials):
    """Runs the example. Returns its results, and what was trained: loss arguments and labels."""
    trained, train = [], example.train

    def watched(make_loss, parameters, x, y, *arguments):
        trained.append((parameters, x, y))
        return train(make_loss, parameters, x, y, *arguments)

    options = ["--trials", trials, "--splits", 2, "--epochs", 1, "--seeds", 1, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(example, "train", watched)
        patch.setattr(sys, "argv", ["tune.py", *map(str, options)])
        example.main()
    (file,) = out.glob("*/tested.json")
    return json.loads(file.read_text()), trained


def test_searches_goes_on_and_then_tests(example, monkeypatch, tmp_path, capsys):
    defaults = {name: space["default"] for name, space in example.SPACE.items()}
    results, trained = run(example, monkeypatch, tmp_path, trials=2)
    assert [parameters for parameters, *_ in trained[:2]] == [defaults, defaults]
    assert len(trained) == 2 * 2 + 3
    assert len(results["trials"]) == 2

    results, trained = run(example, monkeypatch, tmp_path, trials=3)
    assert len(trained) == 1 * 2 + 3, "the two trials that are done are not repeated"
    scores = [trial.pop("score") for trial in results["trials"]]
    assert results["trials"][0] == defaults
    assert all(0 <= score <= 1 for score in scores)
    best = results["trials"][int(np.argmax(scores))]
    assert trained[2][0] == best, "what was best on held-out data is what is tested"
    assert [r["method"] for r in results["runs"]] == [
        "LPL, best found",
        "LPL, defaults",
        "logit adjustment",
    ]
    said = capsys.readouterr().out
    assert said.rindex(f"    head_scale={best['head_scale']}") < said.rindex("On the test set")

    # Of 371 images, a search trains on those that are not held out; a test on all.
    (x, _), (x_test, _) = keras_lpl.data.load("digits", imbalance_factor=50)
    known = {image.tobytes() for image in x}
    for index, (_, images, labels) in enumerate(trained):
        assert {image.tobytes() for image in images} <= known
        assert len(labels) == len(images) == (len(x) if index >= 2 else 371 - 112)
    assert not known & {image.tobytes() for image in x_test}


def test_every_class_is_trained_on_and_held_out(example):
    (_, y), _ = keras_lpl.data.load("digits", imbalance_factor=50)
    counts = keras_lpl.data.class_counts(y)
    splits = [example.held_out(y, seed) for seed in range(2)]
    for held in splits:
        of_class = keras_lpl.data.class_counts(y[held], num_classes=10)
        np.testing.assert_allclose(of_class, 0.3 * counts, atol=0.51)
        assert of_class.min() == 1
        assert keras_lpl.data.class_counts(y[~held]).min() == 1
    assert (splits[0] != splits[1]).any()


def test_the_default_trial_is_the_default_loss(example):
    counts, labels = [50, 20, 10, 5, 2], np.arange(5)
    logits = np.random.default_rng(0).normal(size=(5, 5)).astype("float32")
    defaults = {name: space["default"] for name, space in example.SPACE.items()}
    assert all(space["default"] in space["values"] for space in example.SPACE.values())
    spelled_out = keras_lpl.LPLLoss(counts, **defaults)(labels, logits)
    assert float(spelled_out) == float(keras_lpl.LPLLoss(counts)(labels, logits))
