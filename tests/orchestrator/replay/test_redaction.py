"""Hidden words keep what the core looks at, piece by piece, and nothing of what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation import words
from services.orchestrator.conversation.playout import whole_words
from services.orchestrator.replay.redaction import hide_characters, hide_users

pytestmark = pytest.mark.unit

TABLES = [*words._BACK_CHANNELS.split(), *words._ANSWERS.split(), *words._SPELLED.split(), *words._PHRASES]
SAID = st.lists(st.sampled_from([*TABLES, "Anna", "B", "c's", "42", "Lisboa", "我叫安娜", "mm-hm", "x"]), max_size=6)
TEXTS = st.one_of(st.text(), st.builds(" ".join, SAID), st.builds("".join, SAID), st.builds(", ".join, SAID))


@given(st.text(), st.text())
def test_a_piece_of_a_hidden_text_is_the_hidden_piece(first: str, second: str) -> None:
    assert hide_characters(first + second) == hide_characters(first) + hide_characters(second)


@given(TEXTS, st.integers(0, 40))
def test_words_end_where_they_did(text: str, characters: int) -> None:
    assert len(hide_characters(text)) == len(text)
    assert whole_words(hide_characters(text), characters) == hide_characters(whole_words(text, characters))


@given(TEXTS)
def test_hidden_words_decide_as_the_words_did(text: str) -> None:
    hidden = hide_users(text)
    for decide in (words.has_words, words.is_back_channel, words.is_one_answer, words.is_spelling):
        assert decide(hidden) == decide(text), (decide.__name__, hidden)
    assert hide_users(hidden) == hidden


def test_nothing_of_names_and_numbers_stays() -> None:
    said = "Yes, I am Anna, A N N A, five five 12, 我叫安娜。"
    assert hide_users(said) == "Yes, I xx Xxxx, X X X X, zero zero 00, 字字字字。"
