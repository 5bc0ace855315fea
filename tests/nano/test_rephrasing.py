"""More ways to ask: names keep their capital, the sense stays, and no question is only asked as it was."""

import pytest

from services.nano.domain import build_domain
from services.nano.rephrasing import ways_to_say

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("question", "way"),
    [
        ("Where is Paris?", "Do you know where Paris is?"),
        ("What is the capital of France?", "Tell me the capital of France."),
        ("Which planet is the largest?", "What is the largest planet?"),
        ("Set a timer for two minutes.", "I need a timer for two minutes."),
        ("Please stop the timer.", "Stop the timer, please."),
        ("Tell me where camels live.", "Where do camels live?"),
        ("I am lost.", "Hey, I am lost."),
        ("Stop the timer.", "Please stop the timer."),
        ("Turn on the kitchen light.", "Turn the kitchen light on."),
        ("Please say: so, falls, violin.", "Repeat after me: so, falls, violin."),
    ],
)
def test_a_question_is_asked_in_other_words(question: str, way: str) -> None:
    assert way in ways_to_say(question)


def test_what_is_to_be_said_is_not_said_politely() -> None:
    assert not [way for way in ways_to_say("Repeat after me: so, falls, violin.") if way.endswith("please.")]


def test_no_two_replies_are_asked_for_in_the_same_words() -> None:
    items = [item for item in build_domain().items if item.role == "user" and not item.history and not item.facts]
    replies: dict[str, set[str]] = {}
    for item in items:
        for way in [item.question, *ways_to_say(item.question)]:
            replies.setdefault(way, set()).add(item.reply)
    assert [way for way, found in replies.items() if len(found) > 1] == []


def test_every_spoken_question_has_another_way() -> None:
    for question in build_domain().spoken_questions:
        ways = ways_to_say(question)
        assert ways
        assert question not in ways
        assert len(set(ways)) == len(ways)
