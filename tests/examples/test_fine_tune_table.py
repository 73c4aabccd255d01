"""A table from a CSV file to a report: what is read, and a model and a preparation that load."""

import csv
import json

import keras
import numpy as np
import pytest

pytest.importorskip("pandas", reason="the example reads tables by it")
pytest.importorskip("rich", reason="the examples show their tables with it")

import fine_tune_table as example
import joblib
import pandas


@pytest.fixture
def table(rng):
    """Words tell one class, a number with gaps tells another."""
    kind = rng.choice(["fine", "dent", "crack"], 300, p=[0.8, 0.15, 0.05])
    weight = rng.normal(size=300) + np.where(kind == "dent", 4, 0)
    weight[::20] = np.nan
    return pandas.DataFrame(
        {
            "id": [f"part {i}" for i in range(300)],
            "weight": weight,
            "machine": np.where(kind == "crack", "B", rng.choice(["A", "C"], 300)),
            "empty": np.nan,
            "defect": kind,
        }
    )


def run(table, tmp_path, *more):
    path = tmp_path / "parts.csv"
    table.to_csv(path, index=False)
    out = tmp_path / "out"
    example.main([str(path), "--target", "defect", "--out", str(out), *map(str, more)])
    return out


def test_from_a_table_to_a_report(table, tmp_path, capsys):
    table.loc[3, "defect"] = np.nan
    out = run(table, tmp_path, "--epochs", 20, "--learning-rate", 0.01)
    shown = capsys.readouterr().out
    assert "1 rows without a value of 'defect' are left out" in shown
    assert "Column 'id' is left out: 299 different words" in shown
    rows = {row["class"]: row for row in csv.DictReader((out / "classes.csv").open())}
    assert list(rows) == ["crack", "dent", "fine"]
    assert sum(int(row["train"]) + int(row["test"]) for row in rows.values()) == 299
    assert all(float(row["recall"]) > 0.7 for row in rows.values())
    assert 2 < len([line for line in shown.splitlines() if line.startswith("epoch")]) < 13

    prepare = joblib.load(out / "prepare.joblib")
    model = keras.saving.load_model(out / "model.keras")
    new = pandas.DataFrame({"weight": [0.0, 4.5, None, 0.1], "machine": ["B", "A", None, "new"]})
    logits = model.predict(prepare.transform(new), verbose=0)
    assert np.isfinite(logits).all()
    names = json.loads((out / "classes.json").read_text())
    assert [names[c] for c in logits.argmax(axis=1)[:2]] == ["crack", "dent"]


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (None, ["--drop", "nothing"], r"has no column 'nothing'\. It has id, weight, machine, .*"),
        (lambda t: t.assign(defect="fine"), [], "Two classes or more are needed: 'defect' has 1"),
        (lambda t: t.assign(defect=t.index), [], "300 different values in 300 rows: is it a num"),
        (lambda t: t[["id", "defect"]], [], "No column is left beside 'defect'"),
        (None, ["--separator", ";"], "has no column 'defect'.*another --separator"),
    ],
)
def test_faults_of_a_table(table, tmp_path, change, more, message):
    with pytest.raises(SystemExit, match=message) as caught:
        run(table if change is None else change(table), tmp_path, *more)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(SystemExit, match=r"There is no file .*nowhere\.csv"):
        example.main([str(tmp_path / "nowhere.csv"), "--target", "x"])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SystemExit, match=r"empty\.csv cannot be read as CSV"):
        example.main([str(tmp_path / "empty.csv"), "--target", "x"])
    with pytest.raises(SystemExit, match="cannot be read as CSV"):
        example.main([str(tmp_path), "--target", "x"])


def test_numbers_as_classes(table, tmp_path, capsys):
    table["defect"] = table["defect"].map({"fine": 0, "dent": 1, "crack": 7})
    out = run(table, tmp_path, "--epochs", 1, "--loss", "cross-entropy")
    assert json.loads((out / "classes.json").read_text()) == ["0", "1", "7"]
