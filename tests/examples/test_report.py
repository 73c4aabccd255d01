"""The report: its measures are scikit-learn's, and its lines name the right classes."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("rich", reason="the examples show their tables with it")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

import report
from sklearn import metrics as sklearn_metrics

NAMES = ["ant", "bee", "cow", "dog"]
COUNTS = [3, 90, 20, 5]


def predictions(rng, size=200):
    labels = rng.integers(0, 3, size)  # no dogs
    logits = rng.normal(size=(size, 4)) + 1.5 * np.eye(4)[labels]
    return labels, logits


def test_measures_are_scikit_learns(rng):
    labels, logits = predictions(rng)
    predicted = logits.argmax(axis=1)
    whole, by_class = report.measure(labels, logits, COUNTS)
    recall = sklearn_metrics.recall_score(labels, predicted, labels=range(3), average=None)
    assert whole["balanced accuracy"] == pytest.approx(recall.mean())
    f1 = sklearn_metrics.f1_score(labels, predicted, labels=range(3), average=None)
    assert whole["macro F1"] == pytest.approx(f1.mean())
    assert whole["accuracy"] == pytest.approx((predicted == labels).mean())
    np.testing.assert_allclose(by_class["recall"], [*recall, np.nan])
    assert by_class["precision"][3] == 0, "dogs are predicted, and there are none"


def test_what_is_written_and_shown(rng, tmp_path, capsys):
    labels = np.array([0, 0, 1, 1, 1, 2])
    taken = np.array([1, 1, 1, 1, 2, 2])
    whole = report.write_report(labels, 5 * np.eye(4)[taken], NAMES, COUNTS, tmp_path, "animals")
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == whole["accuracy"]
    rows = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert [row["class"] for row in rows] == NAMES
    assert rows[3]["recall"] == ""
    shown = capsys.readouterr().out
    assert "accuracy 50.0  balanced accuracy 55.6" in shown
    lines = [line.strip() for line in shown.splitlines()]
    at = lines.index("Taken for another class most often:")
    assert lines[at + 1 : at + 3] == ["ant for bee: 2 of 2", "bee for cow: 1 of 3"]
    assert not any(" for ant" in line for line in lines), "nothing is taken for an ant"
    order = [line.split()[1] for line in lines if line.startswith("│")]
    assert order == ["bee", "cow", "dog", "ant"], "most frequent first"


def test_a_model_without_mistakes(tmp_path, capsys):
    labels = np.array([0, 1, 2, 3])
    report.write_report(labels, 9 * np.eye(4), NAMES, COUNTS, tmp_path, images=["none"] * 4)
    assert "Taken for another" not in capsys.readouterr().out
    assert not (tmp_path / "mistakes.png").exists()


def test_many_classes_are_shown_in_part(tmp_path, capsys):
    labels = np.arange(80).repeat(2)
    taken = np.where(labels == 70, 3, labels)
    names = [f"class-{c}" for c in labels[::2]]
    report.write_report(labels, 5 * np.eye(80)[taken], names, np.arange(80, 0, -1), tmp_path)
    shown = capsys.readouterr().out
    assert "the 30 lowest of 80 classes" in shown
    assert "class-70 " in shown
    assert shown.count("│ class-") == 30
    assert len(list(csv.DictReader((tmp_path / "classes.csv").open()))) == 80


def test_the_contact_sheet_shows_the_surest_mistakes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    paths = []
    for index in range(4):
        paths.append(tmp_path / f"{index}.png")
        image.new("RGB", (30 + index, 20), (60 * index, 0, 0)).save(paths[-1])
    logits = np.array([[0.0, 1.0], [9.0, 0.0], [0.0, 5.0], [2.0, 0.0]])
    figure = report.contact_sheet(np.array([0, 0, 0, 1]), logits, ["a", "b"], paths)
    drawn = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title() for ax in drawn]
    assert titles == ["a\n→ b, 99%", "b\n→ a, 88%", "a\n→ b, 73%"]
    assert [ax.images[0].get_array().shape[1] for ax in drawn] == [32, 33, 30]
