"""The arithmetic of the end-to-end measurement: normalisation, word errors, intervals."""

import pytest

from benchmarks.nano import KINDS, questions, wilson, word_error_rate, words

pytestmark = pytest.mark.unit


def test_case_punctuation_signs_and_numbers_are_normalised() -> None:
    assert words("Six + 3 = 9!") == ["six", "plus", "three", "equals", "nine"]
    assert words("It's 20, 21 or 2024.") == ["its", "twenty", "twenty", "one", "or", "2024"]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "rate"),
    [
        ("a b c", "A, b c.", 0.0),
        ("a c", "a b c", 1 / 3),
        ("a x b c", "a b c", 1 / 3),
        ("x y z", "a b c", 1.0),
        ("", "a b", 1.0),
        ("a b c d", "a", 3.0),
    ],
)
def test_word_errors_are_the_edit_distance_over_the_reference(hypothesis: str, reference: str, rate: float) -> None:
    assert word_error_rate(hypothesis, reference) == pytest.approx(rate)


def test_wilsons_interval_is_the_textbook_one_and_stays_within_0_and_1() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=0.001)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-9)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_every_question_is_of_a_known_kind() -> None:
    assert len(questions()) == 25
    assert all(row["kind"].startswith(tuple(KINDS)) for row in questions())
