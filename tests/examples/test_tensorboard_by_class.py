"""The TensorBoard example: what it writes, read back, is what training came to."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def example():
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    import tensorboard_by_class

    return tensorboard_by_class


def scalars(folder):
    """What TensorBoard finds: `{run: {tag: {step: value}}}`."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    runs = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        tags = runs.setdefault(file.parent.relative_to(folder).as_posix(), {})
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                steps = tags.setdefault(value.tag, {})
                assert event.step not in steps, "two files of one run"
                steps[event.step] = value.tensor.float_val[0]
    return runs


def test_what_is_written(example, monkeypatch, tmp_path, capsys):
    seen, variations, measure = [], [], example.measure

    def watched(*arguments):
        seen.append(measure(*arguments))
        return seen[-1]

    class Variation(keras_lpl.callbacks.LossVariation):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            variations.append(self)

    monkeypatch.setattr(example, "measure", watched)
    monkeypatch.setattr(keras_lpl.callbacks, "LossVariation", Variation)
    methods = ["LPL", "logit adjustment"]
    arguments = ["--methods", *methods, "--epochs", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["tensorboard_by_class.py", *arguments])
    example.main()
    assert f"tensorboard --logdir {tmp_path}" in capsys.readouterr().out

    runs = scalars(tmp_path)
    of_classes = {f"{method}/class {c}" for method in methods for c in range(10)}
    assert set(runs) == {*methods, *of_classes}
    for number, method in enumerate(methods):
        tested, variation = seen[2 * number : 2 * number + 2], variations[number].history
        assert set(runs[method]) == {"loss", "balanced accuracy"}
        balanced = {epoch + 1: 1 - tested[epoch]["balanced_error"] for epoch in range(2)}
        assert runs[method]["balanced accuracy"] == pytest.approx(balanced)
        for c in range(10):
            tags = runs[f"{method}/class {c}"]
            accuracy = {epoch + 1: tested[epoch]["class_accuracy"][c] for epoch in range(2)}
            change = {epoch + 1: variation[epoch][c] for epoch in range(2)}
            assert tags == {
                "accuracy": pytest.approx(accuracy),
                "loss variation": pytest.approx(change),
            }
        # The most frequent digit is held back, the rarest is augmented.
        assert runs[f"{method}/class 0"]["loss variation"][1] < 0
        assert runs[f"{method}/class 9"]["loss variation"][1] > 0

    example.main()
    assert set(scalars(tmp_path)) == set(runs), "another run takes the place of the first"


def test_leaves_out_what_was_not_looked_at(example, tmp_path):
    x, y = np.eye(3, dtype="float32"), np.array([0, 1, 1])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", keras_lpl.LogitAdjustmentLoss([2, 3, 1]))
    variation = keras_lpl.callbacks.LossVariation(x, y, every=2)
    test = np.eye(3, dtype="float32"), np.arange(3)
    by_class = example.ByClass(tmp_path, "run", *test, [2, 3, 1], variation)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[variation, by_class])
    runs = scalars(tmp_path)
    assert list(runs["run/class 0"]["accuracy"]) == [1, 2, 3]
    assert list(runs["run/class 0"]["loss variation"]) == [2]
    assert set(runs["run/class 2"]) == {"accuracy"}, "there is no training sample of class 2"


def test_needs_no_tensorflow(example, tmp_path):
    code = """
import runpy, sys
sys.modules["tensorflow"] = None  # Python's way to say that there is none
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    arguments = ["examples/tensorboard_by_class.py", "--methods", "LPL", "--epochs", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLES)])}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(scalars(tmp_path)) == 11
