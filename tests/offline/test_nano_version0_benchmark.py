"""The questions that version 0 of the nano checkpoint is measured with."""

import pytest

from benchmarks.nano_version0 import KINDS, questions, word_error_rate

pytestmark = pytest.mark.unit


def test_every_question_is_of_a_known_kind() -> None:
    assert len(questions()) == 25
    assert all(row["kind"].startswith(tuple(KINDS)) for row in questions())


def test_the_error_rate_is_the_edit_distance_over_the_reference() -> None:
    assert word_error_rate("a b c d", "a") == pytest.approx(3.0)
    assert word_error_rate("", "") == pytest.approx(0.0)
