"""Which loss helps: the intervals, the verdict, and a small run on a table and on images."""

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the example reads tables by it")
pytest.importorskip("rich", reason="the examples show their tables with it")

import pandas
import which_loss as example


def test_an_interval_of_paired_differences():
    mean, half = example.interval([0.1, 0.2, 0.3])
    # t of 2 degrees of freedom times the spread, times the root of 1/3 + 1/4.
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(4.302653 * 0.1 * np.sqrt(1 / 3 + 0.25), rel=1e-5)


def results(gain, spread=0.01):
    runs = np.array([[0.5, 0.5, 0.9]] * 4) + np.array([[0.0], [0.1], [0.2], [0.3]])
    shift = np.array([[1], [-1], [1], [-1]]) * spread
    return {
        "cross-entropy": runs,
        "worse": runs - 0.1,
        "better": runs + gain + shift,
    }


def test_the_verdict_names_what_is_clearly_ahead():
    said = example.verdict(results(0.1))
    assert said.startswith("better gains most: +10.0 ± ")
    assert "No method is clearly ahead" in example.verdict(results(0.01, spread=0.1))
    assert "No method is clearly ahead" in example.verdict(results(0.0, spread=0.0))


@pytest.fixture
def table(rng, tmp_path):
    kind = rng.choice(["fine", "dent"], 200, p=[0.9, 0.1])
    weight = rng.normal(size=200) + np.where(kind == "dent", 1.5, 0)
    pandas.DataFrame({"weight": weight, "kind": kind}).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


SMALL = ["--splits", "2", "--epochs", "1", "--units", "4"]


def test_on_a_table(table, capsys):
    found = example.main([str(table), "--target", "kind", *SMALL])
    assert list(found) == list(example.METHODS)
    assert all(runs.shape == (2, 3) for runs in found.values())
    assert not np.array_equal(found["cross-entropy"], found["LPLLoss(counts)"])
    shown = capsys.readouterr().out
    assert "t.csv: 200 samples of 2 classes" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert "cross-entropy in balanced accuracy" in shown or "gains most" in shown


def test_on_a_folder_of_images(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow", reason="Keras reads folders by tf.data")
    image = pytest.importorskip("PIL.Image")
    for name, count in {"dark": 8, "light": 4}.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            shade = (30 if name == "dark" else 220) + index
            picture = image.new("RGB", (20 + index, 30), (shade, shade, shade))
            picture.save(tmp_path / "set" / name / f"{index}.png")
    import keras

    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, pooled).save(tmp_path / "backbone.keras")
    options = ["--backbone", str(tmp_path / "backbone.keras"), "--size", "16", *SMALL]
    features, labels, names = example.features_of_images(
        tmp_path / "set", example.parse([str(tmp_path / "set"), *options])
    )
    assert names == ["dark", "light"]
    # In the order of the labels.
    assert features[:, 0].round().tolist() == [*range(30, 38), *range(220, 224)]
    assert labels.tolist() == [0] * 8 + [1] * 4
    monkeypatch.setattr(example, "METHODS", dict(list(example.METHODS.items())[:2]))
    found = example.main([str(tmp_path / "set"), *options])
    assert found["cross-entropy"].shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "needs --target"), (["--target", "kind", "--splits", "1"], "2 or more")],
)
def test_bad_arguments(arguments, message, table, capsys):
    with pytest.raises(SystemExit):
        example.main([str(table), *arguments])
    assert message in capsys.readouterr().err


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(SystemExit, match=r"no file or folder .*none\.csv"):
        example.main([str(tmp_path / "none.csv"), "--target", "kind"])
