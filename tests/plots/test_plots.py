"""The pictures, by what is drawn: heights, order, labels, and nothing global touched."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.container import BarContainer, ErrorbarContainer

from keras_lpl import plots

COUNTS = [20, 500, 3, 100]
ORDER = [1, 3, 0, 2]
PLOTS = {"loss_variation": plots.loss_variation, "class_accuracy": plots.class_accuracy}


@pytest.fixture(params=PLOTS)
def plot(request):
    return PLOTS[request.param]


def bars(axes):
    """The heights of each method's bars, by the method's name in the legend."""
    containers = (each for each in axes.containers if isinstance(each, BarContainer))
    return {each.get_label(): [bar.get_height() for bar in each] for each in containers}


def lines(axes):
    return {
        line.get_label(): line.get_ydata()
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def tick_labels(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_a_bar_for_each_class_and_method(plot, rng):
    values = {"first": rng.random(4), "second": rng.random(4)}
    figure = plot(values)
    axes = figure.axes[0]
    drawn = bars(axes)
    assert list(drawn) == ["first", "second"]
    for name, expected in values.items():
        np.testing.assert_allclose(drawn[name], expected)
    assert tick_labels(axes) == ["0", "1", "2", "3"]
    assert axes.get_xlabel() == "class"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]


def test_bars_do_not_overlap(plot, rng):
    axes = plot({name: rng.random(4) for name in "abcde"}).axes[0]
    spans = sorted(
        (bar.get_x(), bar.get_x() + bar.get_width())
        for container in axes.containers
        for bar in container
    )
    assert len(spans) == 20
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))
    for position, bar in enumerate(axes.containers[2]):  # the middle method stands on its class
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(position)


def test_classes_are_drawn_most_frequent_first(plot):
    values = np.array([0.1, 0.2, 0.3, 0.4])
    axes = plot({"method": values}, COUNTS, class_names=list("abcd")).axes[0]
    np.testing.assert_allclose(bars(axes)["method"], values[ORDER])
    assert tick_labels(axes) == ["b", "d", "a", "c"]
    assert axes.get_xlabel() == "class, most frequent first"


def test_rows_become_a_mean_and_a_whisker(plot, rng):
    rows = rng.random((5, 4))
    axes = plot({"method": rows}, COUNTS).axes[0]
    np.testing.assert_allclose(bars(axes)["method"], rows.mean(axis=0)[ORDER])
    (whiskers,) = (each for each in axes.containers if isinstance(each, ErrorbarContainer))
    ends = np.array([path[:, 1] for path in whiskers[2][0].get_segments()])
    np.testing.assert_allclose(
        ends[:, 1] - ends[:, 0], 2 * rows.std(axis=0)[ORDER], rtol=1e-6, atol=1e-12
    )


def test_many_classes_become_lines(plot, rng):
    counts = rng.permutation(100) + 1
    rows = rng.random((3, 100))
    axes = plot({"one": rows[0], "all": rows}, counts).axes[0]
    order = np.argsort(-counts)
    drawn = lines(axes)
    np.testing.assert_allclose(drawn["one"], rows[0][order])
    np.testing.assert_allclose(drawn["all"], rows.mean(axis=0)[order])
    assert not bars(axes)
    (band,) = axes.collections
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    assert low == pytest.approx((mean - deviation).min())
    assert high == pytest.approx((mean + deviation).max())
    assert len(tick_labels(axes)) <= 20
    assert tick_labels(axes)[:3] == ["0", "5", "10"]
    assert axes.get_xlabel().startswith("rank of the class")


def test_every_method_looks_different(plot, rng):
    few = plot({str(index): rng.random(3) for index in range(9)}).axes[0]
    looks = {(each[0].get_facecolor(), each[0].get_hatch()) for each in few.containers}
    assert len(looks) == 9
    many = plot({str(index): rng.random(100) for index in range(9)}).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in many.lines[:9]}) == 9


def test_missing_values_leave_a_gap(plot):
    rows = [[0.5, np.nan, 0.2], [0.7, np.nan, np.inf]]
    heights = bars(plot({"method": rows}).axes[0])["method"]
    np.testing.assert_allclose(heights, [0.6, np.nan, 0.2])


def test_draws_in_given_axes(plot):
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    returned = plot({"method": [0.1, 0.2]}, ax=right, title="Mine")
    assert returned is figure
    assert bars(right) == {"method": [0.1, 0.2]}
    assert not left.has_data()
    assert right.get_title(loc="left") == "Mine"
    assert right.get_legend() is not None
    assert not figure.legends


def test_saves_without_a_display(plot, rng, tmp_path):
    figure = plot({"method": rng.random((2, 30))}, rng.permutation(30) + 1)
    figure.savefig(tmp_path / "picture.png")
    figure.savefig(tmp_path / "picture.svg")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_accuracy_stands_before_the_counts():
    figure = plots.class_accuracy({"method": [0.1, 0.2, 0.3, 0.4]}, COUNTS)
    front, behind = figure.axes
    np.testing.assert_allclose([bar.get_height() for bar in behind.patches], [500, 100, 20, 3])
    assert behind.get_yscale() == "log"
    assert behind.get_ylabel() == "training samples"
    assert front.get_zorder() > behind.get_zorder()
    assert not front.patch.get_visible()
    assert front.get_ylim() == (0, 1)
    assert front.yaxis.get_major_formatter()(0.5) == "50%"


def test_accuracy_without_counts_has_one_axis():
    assert len(plots.class_accuracy({"method": [0.1, 0.2]}).axes) == 1


def test_variation_has_a_zero_line_and_a_scale_that_shows_all_classes():
    axes = plots.loss_variation({"method": [-0.5, 0.2, 9.9]}).axes[0]
    assert axes.get_yscale() == "linear"
    assert any(np.array_equal(line.get_ydata(), [0, 0]) for line in axes.lines)
    axes = plots.loss_variation({"method": [-0.5, 0.2, 300]}).axes[0]
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylim()[0] <= -1 < 300 < axes.get_ylim()[1]
    axes = plots.loss_variation({"method": [-0.5, 0.2, 300]}, yscale="linear").axes[0]
    assert axes.get_yscale() == "linear"


def test_touches_nothing_global(plot, rng):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    plot({"method": rng.random(4)}, COUNTS)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


@pytest.mark.on_one_backend
def test_importing_needs_no_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None
import keras_lpl.plots
try:
    keras_lpl.plots.class_accuracy({"method": [0.1, 0.2]})
except ImportError as error:
    sys.exit(f"late, as it should: {error}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "late, as it should: `keras_lpl.plots` needs Matplotlib" in done.stderr


def test_without_matplotlib_the_error_names_the_extra(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install keras-lpl\[examples\]"):
        plot({"method": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2],), "must be a dictionary from a method's name"),
        (({},), "must be a dictionary"),
        (({"a": [0.1, 0.2], "b": [0.1]},), "same number of classes.*{'a': 2, 'b': 1}"),
        (({"a": np.zeros((1, 2, 3))},), r"\['a'\]` must have shape.*\(1, 2, 3\)"),
        (({"a": [0.1, 0.2]}, [1, 2, 3]), "`class_counts` must have one entry.*3 entries"),
        (({"a": [0.1, 0.2]}, [1, 0]), "`class_counts` must be positive"),
        (({"a": [0.1, 0.2]}, None, ["x"]), "`class_names` must have one entry.*1 entries"),
    ],
)
def test_bad_arguments(plot, arguments, message):
    with pytest.raises(ValueError, match=message):
        plot(*arguments)


def test_percentages_and_scales_are_refused():
    with pytest.raises(ValueError, match=r"divide percentages by 100.*'a' from 0\.5 to 91"):
        plots.class_accuracy({"a": [0.5, 91]})
    with pytest.raises(ValueError, match=r"`yscale` must be one of.*'log'"):
        plots.loss_variation({"a": [0.5, 91]}, yscale="log")


def test_both_sides_of_several_labels(plot):
    counts = np.array([[90, 10], [60, 40]])
    rows = np.array([[[0.9, 0.2], [0.8, 0.5]], [[0.7, 0.4], [0.8, 0.7]]])
    axes = plot({"method": rows}, counts, class_names=["cat", "dog"]).axes[0]
    np.testing.assert_allclose(bars(axes)["method"], [0.8, 0.8, 0.6, 0.3])
    assert tick_labels(axes) == ["not cat", "not dog", "dog", "cat"]
    axes = plot({"method": rows[0]}, counts).axes[0]  # the counts tell labels from repeats
    np.testing.assert_allclose(bars(axes)["method"], [0.9, 0.8, 0.5, 0.2])
    with pytest.raises(ValueError, match=r"\(labels, 2\)"):
        plot({"method": rows[0, :, 0]}, counts)


# --- Pictures of predictions ----------------------------------------------------------------

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 2, 1, 0, 2])


def logits_of(predicted, classes=3):
    return 5.0 * np.eye(classes)[predicted]


@pytest.mark.parametrize("form", ["indices", "logits", "one-hot labels"])
def test_confusion_matrix_is_in_percent_of_each_class(form):
    labels = np.eye(3)[LABELS] if form == "one-hot labels" else LABELS
    predicted = PREDICTED if form == "indices" else logits_of(PREDICTED)
    figure = plots.confusion_matrix(labels, predicted, ["a", "b", "c"], [5, 90, 20])
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    # In the order of frequency: b, c, a.
    np.testing.assert_allclose(shown, [[50, 0, 50], [0, 100, 0], [0, 25, 75]])
    assert tick_labels(axes) == ["b", "c", "a"]
    assert [text.get_text() for text in axes.texts] == ["50", "50", "100", "25", "75"]


def test_confusion_matrix_of_many_classes_and_of_absent_ones():
    labels = np.arange(100).repeat(2)
    labels[labels == 7] = 8
    axes = plots.confusion_matrix(labels, labels, class_names=[f"n{i}" for i in range(100)]).axes[0]
    assert not axes.texts
    assert len(tick_labels(axes)) <= 40
    shown = np.ma.filled(np.ma.masked_invalid(axes.images[0].get_array()), np.nan)
    assert np.isnan(shown[7]).all()
    assert shown[8, 8] == 100


@pytest.mark.parametrize("from_logits", [True, False])
def test_reliability_points_and_error(from_logits):
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.65, 0.35]])
    labels = np.array([0, 1, 1, 0])
    given = np.log(probability) if from_logits else probability
    figure = plots.reliability(labels, {"LPL": given}, from_logits=from_logits)
    (line,) = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    np.testing.assert_allclose(line.get_xdata(), [0.65, 0.95])
    np.testing.assert_allclose(line.get_ydata(), [1.0, 0.5])
    assert line.get_label() == f"LPL (ECE {(0.35 + 0.45) / 2:.3f})"


def test_class_report_shows_recall_and_precision():
    axes = plots.class_report(LABELS, PREDICTED, ["a", "b", "c"], [5, 90, 20]).axes[0]
    recall, precision = (each.get_offsets()[:, 0] for each in axes.collections[-2:])
    np.testing.assert_allclose(recall, [1 / 2, 1, 3 / 4])
    np.testing.assert_allclose(precision, [1, 1 / 2, 3 / 4])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["b  (90)", "c  (20)", "a  (5)"]


def test_class_report_of_many_classes_shows_the_lowest():
    labels = np.arange(60).repeat(3)
    predicted = labels.copy()
    predicted[labels == 33] = 0  # two classes that are not perfect
    axes = plots.class_report(labels, predicted).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == 40
    assert {"33", "0"} <= set(shown)
    assert "40 lowest of 60" in axes.get_title(loc="left")


@pytest.mark.parametrize("name", ["LPL", "cross-entropy"])
def test_a_method_has_one_colour_in_every_picture(name):
    few, many = {name: [0.5, 0.6]}, {n: [0.5, 0.6] for n in ("focal", "mine", name, "LA")}
    colors = {
        axes.containers[list(values).index(name)][0].get_facecolor()
        for values in (few, many)
        for axes in (plots.class_accuracy(values).axes[0], plots.loss_variation(values).axes[0])
    }
    assert len(colors) == 1
    of_all = [c[0].get_facecolor() for c in plots.class_accuracy(many).axes[0].containers]
    assert len(set(of_all)) == len(many)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.confusion_matrix([0, 1], [0]), r"2 labels and 1 predictions"),
        (lambda: plots.confusion_matrix([0.5], [0]), r"`y_true` must be class indices"),
        (lambda: plots.confusion_matrix([0, 3], [0, 1], ["a"]), "1 names, and the class 3"),
        (lambda: plots.class_report([0, 1], [0, 1], None, [1, 2, 3]), r"shape \(3,\) for 2 class"),
        (lambda: plots.reliability([0], np.zeros((1, 2))), "dictionary.*ndarray"),
        (lambda: plots.reliability([0], {"a": [[1.0]]}), r"\(samples, classes\).*'a'.*\(1, 1\)"),
        (lambda: plots.reliability([0], {"a": [[np.nan, 1.0]]}), "must be finite"),
        (lambda: plots.confusion_matrix([255], np.zeros((1, 3))), "below 3.*the label 255"),
        (lambda: plots.class_report([[1, 1, 0]], np.zeros((1, 3))), "one label for each sample"),
    ],
)
def test_what_the_pictures_of_predictions_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
