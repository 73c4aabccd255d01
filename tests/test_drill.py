"""The drill for faults, where it is fastest; `make drill` runs all of it."""

import pytest

from tests import drill


@pytest.mark.on_one_backend
def test_killed_while_it_writes_a_backup(tmp_path):
    assert drill.drill("torch", tmp_path, "losses", ["save"]) == []
