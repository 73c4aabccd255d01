"""What results are measured by, and how they are summarised."""

import json

import numpy as np
import pytest
import reporting


def test_measure_is_what_counting_gives(rng):
    import common

    counts = [300, 101, 100, 20, 19, 1]
    labels = np.repeat(np.arange(6), 25)
    logits = rng.normal(size=(150, 6)) + 1.5 * np.eye(6)[labels]
    measured = common.measure(logits, labels, counts)
    hits = [0] * 6
    for row, label in zip(logits, labels, strict=True):
        hits[label] += int(max(range(6), key=lambda c, row=row: row[c]) == label)
    of_class = [n / 25 for n in hits]
    assert measured["class_accuracy"] == of_class
    assert measured["accuracy"] == sum(hits) / 150
    assert measured["balanced_error"] == pytest.approx(1 - sum(of_class) / 6, rel=1e-5)
    shots = {"many": of_class[:2], "medium": of_class[2:4], "few": of_class[4:]}
    assert len({sum(values) for values in shots.values()}) == 3
    for shot, values in shots.items():
        assert measured[f"{shot}_shot_accuracy"] == pytest.approx(sum(values) / 2, rel=1e-5)
    json.dumps(measured, allow_nan=False)


def test_measure_without_rare_classes():
    import common

    measured = common.measure(np.eye(2), [0, 1], [500, 500])
    assert measured["many_shot_accuracy"] == 1.0
    assert measured["medium_shot_accuracy"] is measured["few_shot_accuracy"] is None
    assert measured["balanced_error"] == 0.0


def test_mean_and_spread():
    assert reporting.mean_and_spread([0.2, 0.22, 0.27]) == "23.0 ± 3.6"
    assert reporting.mean_and_spread([0.2, 0.22, 0.27], decimals=2) == "23.00 ± 3.61"
    assert reporting.mean_and_spread([0.257]) == "25.7"
    assert reporting.mean_and_spread([0.2, None]) == "-"


def test_markdown_tables():
    rows = [["a", "1.0"], ["b", "2.0"]]
    assert reporting.markdown_table(["name", "x"], rows).splitlines() == [
        "| name | x |",
        "| --- | ---: |",
        "| a | 1.0 |",
        "| b | 2.0 |",
    ]
    assert "| --- | --- |" in reporting.markdown_table(["name", "x"], rows, numbers=False)


def test_a_table_fits_eighty_columns(capsys, monkeypatch):
    """Numbers in one piece, whatever the names; and any method's name is read in any case."""
    monkeypatch.setenv("COLUMNS", "80")
    from methods import METHODS, named

    measured = {"balanced_error": 0.123, "few_shot_accuracy": None}
    measured |= {f"{shot}_shot_accuracy": 1.0 for shot in ("many", "medium")}
    runs = [{"method": method, **measured} for method in METHODS for _ in range(3)]
    reporting.print_table(runs, "Digits")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("12.3 ± 0.0" in line and "100.0 ± 0.0" in line for line in lines) == len(METHODS)
    assert not any("…" in line for line in lines)
    for method in METHODS:
        assert named(METHODS)(method.upper()) == named(METHODS)(method.lower()) == method


def test_a_result_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "result.json"
    reporting.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        reporting.write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


def test_progress_is_lines_where_there_is_no_terminal(capsys):
    with reporting.progress_bar() as bar:
        task = bar.add_task("", total=30)
        for seed in range(2):
            bar.update(task, description=f"seed {seed}   ")
            for _ in range(15):
                bar.advance(task)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("seed 0: 3/30, ")
    assert lines[-1].startswith("seed 1: 30/30, ")
