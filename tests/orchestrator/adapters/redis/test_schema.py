"""Values come back exactly, their written form does not change unnoticed, and what is wrong is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.adapters.redis import schema
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import (
    Message,
    Role,
    ToolCall,
    ToolResult,
    TurnMetrics,
    UtteranceSpeech,
)
from services.orchestrator.ports.store import KeptTurn, OpenTurn, StreamFormats
from services.shared.errors import StepAudioError
from tests.orchestrator.adapters.redis.values import EXCHANGE, FORMATS, OPTIONS, open_turn, turn

pytestmark = pytest.mark.unit

RECORDED = json.loads(Path(__file__).with_name("schema_v1.json").read_text(encoding="utf-8"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
for kind, strategy in ((str, TEXT), (float, FINITE)):
    st.register_type_strategy(kind, strategy)
CONTENT = TEXT | st.from_type(ToolCall) | st.from_type(ToolResult)
MESSAGES = st.lists(st.builds(Message, content=CONTENT), max_size=3).map(tuple)


@given(value=st.from_type(Options))
def test_options_come_back_exactly(value: Options) -> None:
    assert schema.OPTIONS.read(schema.OPTIONS.write(value)) == value


@given(value=st.from_type(KeptTurn))
def test_turns_come_back_exactly(value: KeptTurn) -> None:
    assert schema.TURN.read(schema.TURN.write(value)) == value


@given(value=st.from_type(OpenTurn), formats=st.from_type(StreamFormats), history=MESSAGES)
def test_open_turns_formats_and_history_come_back_exactly(
    value: OpenTurn, formats: StreamFormats, history: tuple[Message, ...]
) -> None:
    assert schema.OPEN_TURN.read(schema.OPEN_TURN.write(value)) == value
    assert schema.FORMATS.read(schema.FORMATS.write(formats)) == formats
    assert schema.HISTORY.read(schema.HISTORY.write(history)) == history


@given(value=st.dictionaries(TEXT, TEXT), tokens=st.lists(st.integers(0, 5119)).map(tuple))
def test_labels_and_tokens_come_back_exactly(value: dict[str, str], tokens: tuple[int, ...]) -> None:
    assert schema.LABELS.read(schema.LABELS.write(value)) == value
    assert schema.TOKENS.read(schema.TOKENS.write(tokens)) == tokens


def test_the_written_form_of_version_1_is_this_one() -> None:
    assert schema.VERSION == 1
    recorded = {
        schema.FORMATS.write(FORMATS): RECORDED["formats"],
        schema.OPTIONS.write(OPTIONS): RECORDED["options"],
        schema.TURN.write(turn(1)): RECORDED["turn"],
        schema.OPEN_TURN.write(open_turn(2)): RECORDED["open_turn"],
        schema.HISTORY.write((Message(Role.USER, "你好"), *EXCHANGE)): RECORDED["history"],
    }
    for written, expected in recorded.items():
        assert json.loads(written) == {"v": 1, "value": expected}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"v":1}',
        b'{"v":1,"value":{}}',
        b'{"v":0,"value":{}}',
        b'{"v":"1","value":{}}',
        b'{"v":true,"value":{}}',
        b"\xff\xfe",
        schema.FORMATS.write(FORMATS).replace(b"16000", b"16000.5"),
        schema.FORMATS.write(FORMATS).replace(b"16000", b'"16000"'),
        schema.FORMATS.write(FORMATS).replace(b"16000", b"true"),
        schema.FORMATS.write(FORMATS).replace(b"16000", b"null"),
        schema.FORMATS.write(FORMATS).replace(b'"reply_rate_hz"', b'"reply_rate"'),
        schema.FORMATS.write(FORMATS).replace(b'"input_rate_hz"', b'"more":1,"input_rate_hz"'),
    ],
)
def test_what_is_damaged_is_refused(damage: bytes) -> None:
    with pytest.raises(StepAudioError):
        schema.FORMATS.read(damage)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"0" * 3])
def test_a_number_that_is_not_finite_is_refused(number: bytes) -> None:
    with pytest.raises(StepAudioError):
        schema.OPTIONS.read(schema.OPTIONS.write(OPTIONS).replace(b"1.25", number))


def test_a_value_of_an_enumeration_that_is_unknown_is_refused() -> None:
    with pytest.raises(StepAudioError):
        schema.TURN.read(schema.TURN.write(turn(1)).replace(b'"speech"', b'"telepathy"'))


def test_a_newer_version_is_refused_by_its_number() -> None:
    with pytest.raises(StepAudioError, match="version 2"):
        schema.FORMATS.read(schema.FORMATS.write(FORMATS).replace(b'"v":1', b'"v":2'))


WRONG: list[tuple[schema.Form[Any], object]] = [  # values of the wrong type, on purpose
    (schema.HISTORY, (Message(Role.USER, UtteranceSpeech(1)),)),
    (schema.HISTORY, (Message(Role.USER, 5),)),  # type: ignore[arg-type]  # on purpose
    (schema.LABELS, {"half": "\ud800"}),
    (schema.LABELS, {"number": 1}),
    (schema.OPTIONS, replace(OPTIONS, system_prompt=b"bytes")),  # type: ignore[arg-type]  # on purpose
    (schema.OPTIONS, turn(1)),
    (schema.TURN, replace(turn(1), end_s=float("nan"))),
    (schema.TURN, replace(turn(1), number=True)),
    (schema.TOKENS, [1, 2]),
]


@pytest.mark.parametrize(("form", "value"), WRONG)
def test_what_is_not_kept_is_refused_when_it_is_written(form: schema.Form[Any], value: object) -> None:
    with pytest.raises(StepAudioError):
        form.write(value)


def test_metrics_without_audio_come_back() -> None:
    bare = replace(turn(1), metrics=TurnMetrics())
    assert schema.TURN.read(schema.TURN.write(bare)) == bare
