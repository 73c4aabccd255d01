"""What devices exchange, on paper: the page shows the table that the script makes."""

from pathlib import Path

import pytest

from tests.benchmarks.test_benchmarks import load

pytestmark = pytest.mark.on_one_backend

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


def test_the_page_shows_the_table():
    script = load("devices")
    assert script.make_table(script.read_options([])) in PAGE.read_text()


def test_a_ring_moves_what_there_is():
    """Of two devices, each gets the other's rows, and half of all sums twice."""
    script = load("devices")
    options = script.read_options(["--batch-size", "10", "--weights", "0"])
    found = script.costs(2, 1000, options)
    assert found["gather"][0] == 10 * (1000 + script.columns_of_a_row()) * 4
    assert found["sums by class"][0] == 20 * 1000 * 4
    assert found["gradients"][0] == script.FEATURES * 1000 * 4


def test_of_a_row_are_gathered_its_label_its_weight_and_whether_it_is_bad():
    assert load("devices").columns_of_a_row() == 3
