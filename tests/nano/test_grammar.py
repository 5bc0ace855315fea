"""Patterns expand to every text they stand for, and a wrong line is named."""

import pytest

from services.nano.grammar import Item, Turn, expand, read_items, with_articles
from services.shared.errors import CorruptFileError

pytestmark = pytest.mark.unit


def test_alternatives_and_options_multiply() -> None:
    texts = expand("[Please ](turn|switch) it on[ now].")
    assert texts == [
        "Turn it on.",
        "Turn it on now.",
        "Switch it on.",
        "Switch it on now.",
        "Please turn it on.",
        "Please turn it on now.",
        "Please switch it on.",
        "Please switch it on now.",
    ]


def test_a_row_fills_question_context_and_reply() -> None:
    text = """
== recall
: pet name
| owl | Rex
$ Today is Monday.
~ user: My {pet} is called {name}.
~ filler
> What is my {pet} called?
< {Pet} [[note; name={name}]] {name_low}, a {pet}.
= {name}.
"""
    (item,) = read_items(text, name="x")
    assert item == Item(
        "recall",
        "What is my owl called?",
        ("Owl <|CALL_START|>note; name=Rex<|CALL_END|> rex, an owl.", "Rex."),
        facts="Today is Monday.",
        history=(Turn("user", "My owl is called Rex."), Turn("user", "filler")),
    )
    assert item.reply == item.answers[0]


def test_each_way_to_say_the_first_turn_meets_a_question() -> None:
    items = list(read_items("== a\n~ user: (One|Two).\n> (A|B|C)?\n< Yes.\n", name="x"))
    assert [item.history[0].text for item in items] == ["One.", "Two.", "One."]


def test_a_tools_result_is_the_last_message_and_not_spoken_by_a_person() -> None:
    (item,) = read_items("== a\n~ user: Weather?\n! sunny\n< It is sunny.\n", name="x")
    assert (item.role, item.question) == ("tool", "sunny")


@pytest.mark.parametrize("text", ["> early", "== a\n? what", "== a\n: x y\n| 1\n> {x}\n< b", "== a\n> {x}\n< b"])
def test_a_line_outside_the_notation_is_refused(text: str) -> None:
    with pytest.raises(CorruptFileError):
        list(read_items(text, name="x"))


def test_articles_follow_the_sound() -> None:
    assert with_articles("a owl, a uniform, a one, A apple, a pen") == "an owl, a uniform, a one, An apple, a pen"
