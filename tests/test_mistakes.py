"""Mistakes raise errors that name the argument, what was received, and what to do."""

import pytest

from tests import mistakes
from tests.mistakes import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.code)
def test_mistake(mistake):
    error = mistakes.raised_by(mistake.code)
    assert isinstance(error, (ValueError, TypeError)), repr(error)
    assert mistake.is_said_by(str(error)), f"{error}\n\nmust say: {mistake.says}"
    assert len(str(error)) < 2000


def test_every_message_says_what_was_received():
    assert len(MISTAKES) >= 100
    assert len({mistake.code for mistake in MISTAKES}) == len(MISTAKES)
    for mistake in MISTAKES:
        assert len(mistake.says) >= 2, mistake
        assert any(part.startswith("Received: ") for part in mistake.says), mistake


@pytest.mark.on_one_backend
def test_the_page_is_made_of_them():
    assert mistakes.PAGE.read_text() == mistakes.page(), "run `python -m tests.mistakes`"


def test_a_message_without_a_part_is_found_out():
    mistake = Mistake("", "", ("`tau`", "Received: tau=-1"))
    assert mistake.is_said_by("`tau` must be at least 0. Received: tau=-1")
    assert not mistake.is_said_by("`tau` must be at least 0.")
    assert not mistake.is_said_by("Received: tau=-1, the `tau`")
    assert mistakes.raised_by("LogitAdjustmentLoss(counts)(labels, logits)") is None
