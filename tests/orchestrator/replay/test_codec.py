"""Every value that the core takes or gives is written and read back, and no word slips through where none is wanted."""

import dataclasses
import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.conversation.core import Past
from services.orchestrator.conversation.effects import Effect, SetTimer
from services.orchestrator.conversation.events import (
    Closed,
    Event,
    ReplyFailed,
    ReplyId,
    Say,
    TextTurn,
    Timer,
    Transcribed,
)
from services.orchestrator.conversation.history import EndedTurn, PastTurn
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, Origin, ReplyWork, Role
from services.orchestrator.pipeline.core import Beginning
from services.orchestrator.replay.codec import Codec, RecordedTurn, fields_of
from services.orchestrator.replay.lines import BEGINNINGS, EFFECTS, EVENTS
from services.orchestrator.replay.redaction import NAMES, OTHERS, USERS, hide
from services.shared.errors import InvalidInputError, QuotaExceededError, StepAudioError

pytestmark = pytest.mark.unit

WORDS = st.text(max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    object: st.none(),
    float: FLOATS,
    str: WORDS,
    StepAudioError: st.builds(QuotaExceededError, WORDS, limit=WORDS),
    PastTurn: st.builds(RecordedTurn, st.integers(1), st.sampled_from(Origin), WORDS, WORDS, WORDS),
    EndedTurn: st.builds(RecordedTurn, st.integers(1), st.sampled_from(Origin), WORDS, WORDS, WORDS),
    Options: st.builds(Options, system_prompt=WORDS),
}
for kind, strategy in PLAIN.items():
    st.register_type_strategy(kind, strategy)


def reachable(kind: Any, found: set[type]) -> set[type]:
    """All value classes that a type holds."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in found:
        found.add(kind)
        for part in fields_of(kind).values():
            reachable(part, found)
    for part in get_args(kind):
        reachable(part, found)
    return found


ALL = sorted(reachable(Beginning, reachable(Effect, reachable(Event, {RecordedTurn}))), key=lambda kind: kind.__name__)


@settings(max_examples=300)
@given(st.one_of(*(st.from_type(kind) for kind in get_args(Event))))
def test_every_event_is_read_back_as_it_was_written(event: Event) -> None:
    plain = EVENTS.write(event, hides_text=False)
    again = EVENTS.read(json.loads(json.dumps(plain)))
    assert type(again) is type(event)
    assert EVENTS.write(again, hides_text=False) == plain
    if not isinstance(event, ReplyFailed):
        assert again == event
    hidden = EVENTS.write(event, hides_text=True)
    assert EVENTS.write(EVENTS.read(hidden), hides_text=True) == hidden


@settings(max_examples=300)
@given(st.one_of(*(st.from_type(kind) for kind in get_args(Effect))))
def test_every_effect_is_written_and_hidden_in_a_form_of_its_own(effect: Effect) -> None:
    plain = EFFECTS.write(effect, hides_text=False)
    assert EFFECTS.write(EFFECTS.read(json.loads(json.dumps(plain))), hides_text=False) == plain
    hidden = EFFECTS.write(effect, hides_text=True)
    assert EFFECTS.write(EFFECTS.read(hidden), hides_text=True) == hidden


def test_what_a_session_began_with_is_read_back() -> None:
    turn = RecordedTurn(2, Origin.TEXT, "How is it?", "Fine.", "a")
    past = Past((turn, turn), turn, epoch=3, input_sample=5, at_s=1.5)
    beginning = Beginning(Options(), (Message(Role.USER, "Hello."),), 22_050, past, 7, "session")
    assert BEGINNINGS.read(BEGINNINGS.write(beginning, hides_text=False)) == beginning


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_text_of_a_recorded_value_is_known_as_the_users_as_another_or_as_a_name(kind: type) -> None:
    known = {field for table in (USERS, OTHERS) for owner, field in table if owner is kind}
    texts = {name for name, part in fields_of(kind).items() if part is str or str in get_args(part)}
    assert texts - NAMES == known


def test_errors_keep_their_class_and_say_nothing_where_words_are_hidden() -> None:
    error = InvalidInputError("Anna is no number", value="Anna")
    event = ReplyFailed(1.0, ReplyId(1, 1), error, ReplyWork())
    again = EVENTS.read(EVENTS.write(event, hides_text=False))
    assert isinstance(again, ReplyFailed)
    assert (type(again.error), str(again.error), again.error.details) == (type(error), str(error), error.details)
    assert "Anna" not in json.dumps(EVENTS.write(event, hides_text=True))


def test_names_stay_and_words_go() -> None:
    turn = TextTurn(1.0, "request-1", "My name is Anna.")
    assert EVENTS.write(turn, hides_text=True)["request_id"] == "request-1"
    assert EVENTS.write(turn, hides_text=True)["text"] == "Xx xxxx xx Xxxx."
    assert EVENTS.write(Transcribed(1.0, 1, "Mm-hm.", is_final=True), hides_text=True)["text"] == "Mm-hm."
    assert EVENTS.write(Say(1.0, "", "Yes, 25."), hides_text=True)["text"] == "Xxx, 00."


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"is": "StepAudioErrorx", "message": "", "details": {}}, "no error of this project"),
        ({"is": "Final", "message": "", "details": {}}, "no error of this project"),
        ({"is": "InvalidInputError", "message": "", "details": []}, "object"),
        (None, "an error is wanted"),
    ],
)
def test_an_error_is_made_of_the_projects_classes_alone(plain: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Codec[StepAudioError](StepAudioError, hide).read(plain)


@pytest.mark.parametrize("value", [SetTimer(Timer.TOOL, float("nan")), SetTimer(Timer.TOOL, float("inf"))])
def test_what_is_no_number_is_not_written(value: SetTimer) -> None:
    with pytest.raises(ValueError, match="cannot be recorded"):
        EFFECTS.write(value, hides_text=False)


def test_what_is_no_event_is_not_written() -> None:
    with pytest.raises(TypeError, match="SetTimer"):
        EVENTS.write(SetTimer(Timer.TOOL, None), hides_text=False)  # type: ignore[arg-type]  # that is what is tried
    with pytest.raises(TypeError, match="cannot be recorded"):
        Codec(dict[str, int], hide)
    assert EVENTS.read({"is": "Closed", "at_s": 1}) == Closed(1.0)
