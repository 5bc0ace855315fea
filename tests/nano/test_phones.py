"""Symbols of both sources fall onto one alphabet, and time is neither lost nor invented."""

import pytest

from services.nano.phones import LABELS, Phone, labels_of, phones_of, split_clauses, symbols_of

pytestmark = pytest.mark.unit


def test_a_tie_makes_one_symbol_and_marks_stand_alone() -> None:
    assert symbols_of("nˈa^ɪs t^ʃˈuːz") == ["n", "ˈ", "aɪ", "s", " ", "tʃ", "ˈ", "u", "ː", "z"]


@pytest.mark.parametrize(
    ("symbol", "labels"),
    [
        ("aɪ", "I"),
        ("aɪɚ", "Iəɹ"),
        ("oʊ", "O"),
        ("əʊ", "O"),
        ("dʒ", "ʤ"),
        ("ɜː", "ɜ"),
        ("ɒ", "ɑ"),
        ("a", "æ"),
        ("e", "A"),
        ("eə", "ɛə"),
        ("_:", "_"),
        (".", "_"),
        ("ˈ", ""),
        ("ː", ""),
        (" ", ""),
        ("", ""),
    ],
)
def test_symbols_have_classes(symbol: str, labels: str) -> None:
    assert labels_of(symbol) == tuple(labels)
    assert set(labels) <= set(LABELS)


def test_marks_give_their_time_to_a_neighbour() -> None:
    phones = phones_of(["_", "ˈ", "i", "ː", " ", "ɚ", "_"], [10, 12, 20, 24, 30, 40, 50])
    assert phones == [
        Phone("_", 0, 10),
        Phone("i", 10, 30),
        Phone("ə", 30, 35),
        Phone("ɹ", 35, 40),
        Phone("_", 40, 50),
    ]


def test_silences_join_and_phones_cover_the_utterance() -> None:
    phones = phones_of(["_", "n", ".", "_", "ˈ"], [10, 20, 30, 40, 45])
    assert phones == [Phone("_", 0, 10), Phone("n", 10, 20), Phone("_", 20, 45)]


def test_clauses_keep_their_marks() -> None:
    assert split_clauses("Well, no! Why") == [("Well", ","), ("no", "!"), ("Why", "")]
