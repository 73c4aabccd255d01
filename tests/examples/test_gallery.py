"""The pictures of the gallery and the charts of the results are drawn, in each method's colour."""

from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from reproduction import pictures

from examples import colors
from examples.gallery import __main__ as gallery
from keras_lpl.plots import _series

pytestmark = pytest.mark.on_one_backend

ROOT = Path(__file__).parent.parent.parent


def shows(file, color):
    """Tells whether a picture has the colour, on twenty pixels or more."""
    pixels = (matplotlib.image.imread(file)[..., :3] * 255).round().astype(int)
    wanted = np.round(255 * np.array(matplotlib.colors.to_rgb(color)))
    return (np.abs(pixels - wanted).max(axis=-1) <= 1).sum() >= 20


def test_every_picture_is_drawn_in_the_colours_of_its_methods(tmp_path):
    gallery.main(["--out", str(tmp_path), "--seeds", "1", "--epochs", "2"])
    for name in gallery.PICTURES:
        drawn, committed = tmp_path / f"{name}.png", ROOT / "docs" / "gallery" / f"{name}.png"
        assert drawn.exists()
        for file in (drawn, committed):
            assert shows(file, colors.color_of("LPLLoss(counts)")), file
    assert shows(tmp_path / "margins.png", colors.color_of("logit adjustment"))
    assert not shows(tmp_path / "loss_variation.png", colors.color_of("class weights"))


def test_colours_are_those_of_the_package():
    for method, place in getattr(_series, "PLACES", {}).items():
        assert colors.color_of(method) == _series.COLORS[place], method


def test_an_unknown_picture_is_refused(capsys):
    with pytest.raises(SystemExit):
        gallery.main(["two_suns"])
    assert "there is no picture two_suns" in capsys.readouterr().err


def test_colours_tell_methods_apart():
    every = [*colors.COLORS.values(), *colors.BACKENDS.values(), colors.GRAY]
    assert len(set(every)) == len(every)
    assert colors.color_of("LA, tau 1") == colors.color_of("logit adjustment")
    assert colors.color_of("no method") == colors.GRAY


def test_charts_are_drawn_from_the_committed_results():
    results = ROOT / "docs" / "results"
    figure = pictures.digits(results / "digits" / "jax.json")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[-1] == "LA+LPL"  # the smallest error is at the top
    assert names[0] == "backward correction"
    assert len(pictures.of_the_paper(results / "reproduction").axes) == 2
    for draw in (pictures.cost, pictures.speed):
        assert draw(results / "benchmarks").axes
