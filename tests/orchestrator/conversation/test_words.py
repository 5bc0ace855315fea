"""Words that decide about turns."""

import pytest

from services.orchestrator.conversation.words import has_words, is_back_channel, is_one_answer, is_spelling

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text", ["mm-hm", "Mm-hm.", "Yeah.", "Uh-huh, yeah!", "OK, I see.", "嗯", "嗯嗯。", "对对对", "はい", "네."]
)
def test_a_listeners_sounds_are_a_back_channel(text: str) -> None:
    assert is_back_channel(text)


@pytest.mark.parametrize("text", ["", "…", "stop", "yeah but no", "I see a house", "go", "嗯不对", "等一下", "no"])
def test_other_words_and_none_are_no_back_channel(text: str) -> None:
    assert not is_back_channel(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("Yes.", True), ("不是", True), ("yes please", False), ("tomorrow", False)]
)
def test_one_known_word_is_a_whole_answer(text: str, expected: bool) -> None:
    assert is_one_answer(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A B", True),
        ("my name is J O", True),
        ("the number is 4 1", True),
        ("it is four one five", True),
        ("415", True),
        ("一三八", True),
        ("a", False),
        ("I", False),
        ("J O is my name", False),
        ("nine", False),
        ("", False),
    ],
)
def test_letters_and_digits_at_the_end_are_spelling(text: str, expected: bool) -> None:
    assert is_spelling(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), (" … -- ?!", False), ("ah", True), ("啊", True), ("7", True)]
)
def test_punctuation_is_no_word(text: str, expected: bool) -> None:
    assert has_words(text) is expected
