"""Options as they come and as they are told: ranges, merging, and what this release refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.gen.stepaudio.v1 import options_pb2, tools_pb2, turn_taking_pb2
from services.orchestrator.conversation.options import ContextOverflow, EndpointingMode, Options
from services.orchestrator.ingress.options import merge, to_message
from services.shared.errors import InvalidOptionError
from tests.orchestrator.ingress.serving import OFFER

pytestmark = pytest.mark.unit

Session = options_pb2.SessionOptions
Voice = options_pb2.VoiceOptions
Generation = options_pb2.GenerationOptions
TurnTaking = turn_taking_pb2.TurnTakingOptions
Idle = turn_taking_pb2.EndpointingOptions
NAN = float("nan")

WRONG: list[tuple[Any, str]] = [
    (Session(voice=Voice(speed=0.2)), "voice.speed"),
    (Session(voice=Voice(speed=NAN)), "voice.speed"),
    (Session(voice=Voice(speed=float("inf"))), "voice.speed"),
    (Session(voice=Voice(volume=-0.1)), "voice.volume"),
    (Session(voice=Voice(volume=10.5)), "voice.volume"),
    (Session(voice=Voice(seed=-1)), "voice.seed"),
    (Session(voice=Voice(voice_id="x" * 65)), "voice.voice_id"),
    (Session(generation=Generation(max_new_tokens=0)), "generation.max_new_tokens"),
    (Session(generation=Generation(max_new_tokens=1025)), "generation.max_new_tokens"),
    (Session(generation=Generation(temperature=2.1)), "generation.temperature"),
    (Session(generation=Generation(top_p=0.0)), "generation.top_p"),
    (Session(generation=Generation(top_p=1.1)), "generation.top_p"),
    (Session(generation=Generation(top_k=-1)), "generation.top_k"),
    (Session(turn_taking=TurnTaking(mode=99)), "turn_taking.mode"),  # type: ignore[arg-type]  # a newer client's
    (Session(turn_taking=TurnTaking(max_utterance_ms=999)), "turn_taking.max_utterance_ms"),
    (
        Session(turn_taking=TurnTaking(voice_activity=turn_taking_pb2.VoiceActivityOptions(threshold=0.0))),
        "turn_taking.voice_activity.threshold",
    ),
    (
        Session(turn_taking=TurnTaking(voice_activity=turn_taking_pb2.VoiceActivityOptions(threshold=1.0))),
        "turn_taking.voice_activity.threshold",
    ),
    (Session(turn_taking=TurnTaking(while_idle=Idle(pause_ms=49))), "turn_taking.while_idle.pause_ms"),
    (Session(turn_taking=TurnTaking(while_idle=Idle(pause_ms=1000))), "turn_taking.while_idle.complete_silence_ms"),
    (
        Session(turn_taking=TurnTaking(while_replying=Idle(max_silence_ms=300))),
        "turn_taking.while_replying.max_silence_ms",
    ),
    (
        Session(turn_taking=TurnTaking(while_idle=Idle(one_word_silence_ms=49))),
        "turn_taking.while_idle.one_word_silence_ms",
    ),
    (Session(context=options_pb2.ContextOptions(max_context_tokens=4000)), "context.max_context_tokens"),
    (Session(context=options_pb2.ContextOptions(overflow=9)), "context.overflow"),  # type: ignore[arg-type]  # as above
    (Session(system_prompt="x" * 16_385), "system_prompt"),
    (Session.FromString(b"\xc0\x3e\x01"), "1000"),  # field 1000, which a newer API may have
]

NOT_YET: list[tuple[Any, str]] = [
    (Session(tools=tools_pb2.ToolSet(tools=[tools_pb2.Tool(name="clock")])), "tools.tools[0].description"),
    (Session(turn_taking=TurnTaking(mode=turn_taking_pb2.ENDPOINTING_MODE_TURN_MODEL)), "turn_taking.mode"),
]


@pytest.mark.parametrize(
    ("message", "field"), [*WRONG, *NOT_YET], ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_out_of_range_or_not_offered_is_refused_with_its_path(
    message: options_pb2.SessionOptions, field: str
) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        merge(OFFER.defaults, message, OFFER)
    assert refused.value.details["field"] == f"options.{field}"


def test_a_history_that_outgrows_the_context_may_be_summed_up() -> None:
    asked = Session(context=options_pb2.ContextOptions(overflow=options_pb2.CONTEXT_OVERFLOW_SUMMARISE))
    merged = merge(OFFER.defaults, asked, OFFER)
    assert merged.context.overflow is ContextOverflow.SUMMARISE
    assert to_message(merged, OFFER).context.overflow == options_pb2.CONTEXT_OVERFLOW_SUMMARISE


@pytest.mark.parametrize(("message", "field"), WRONG[:-1], ids=lambda value: value if isinstance(value, str) else "")
def test_a_value_out_of_range_is_told_with_its_limit(message: options_pb2.SessionOptions, field: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        merge(OFFER.defaults, message, OFFER)
    assert refused.value.details["value"]
    assert refused.value.details["limit"]


def test_what_is_not_set_keeps_its_value_also_in_nested_messages() -> None:
    first = merge(OFFER.defaults, Session(voice=Voice(speed=2.0), system_prompt="Be kind."), OFFER)
    message = Session(voice=Voice(volume=0.5), turn_taking=TurnTaking(mode=turn_taking_pb2.ENDPOINTING_MODE_MANUAL))
    second = merge(first, message, OFFER)
    assert (second.voice.speed, second.voice.volume, second.system_prompt) == (2.0, 0.5, "Be kind.")
    assert second.turn_taking.mode is EndpointingMode.MANUAL
    assert merge(second, Session(), OFFER) == second


def test_an_empty_set_of_tools_and_turning_off_what_is_off_ask_for_nothing() -> None:
    barge_in = turn_taking_pb2.BargeInOptions(enabled=False, false_interruption_ms=0)
    message = Session(tools=tools_pb2.ToolSet(), turn_taking=TurnTaking(barge_in=barge_in), partial_transcripts=False)
    assert merge(OFFER.defaults, message, OFFER) == OFFER.defaults


def test_what_is_told_of_the_defaults_has_every_value_but_the_seeds() -> None:
    told = to_message(Options(), OFFER)
    assert told.voice.voice_id == "Fake"
    assert told.generation.top_k == 50
    assert told.generation.max_new_tokens == 512
    assert told.context.max_context_tokens == 4096 - 512
    unset = [
        f"{name}.{field.name}"
        for name in ("voice", "generation", "context")
        for field in getattr(told, name).DESCRIPTOR.fields
        if field.has_presence and not getattr(told, name).HasField(field.name)
    ]
    assert unset == ["voice.seed", "generation.seed"]
    assert told.turn_taking.mode == turn_taking_pb2.ENDPOINTING_MODE_SILENCE


WHOLE = st.integers(0, 2**63 - 1)
PAUSES = st.tuples(st.integers(50, 2000), st.integers(100, 5000), st.integers(200, 10_000)).map(sorted)


@given(
    speed=st.floats(0.25, 4, width=32),
    volume=st.floats(0, 10, width=32),
    seed=st.none() | WHOLE,
    temperature=st.floats(0, 2, width=32),
    tokens=st.integers(1, 1024),
    pauses=PAUSES,
    prompt=st.text(max_size=40),
)
def test_what_is_told_and_sent_back_is_the_same(
    speed: float, volume: float, seed: int | None, temperature: float, tokens: int, pauses: list[int], prompt: str
) -> None:
    pause_ms, complete_ms, max_ms = max(50, min(pauses[0], 2000)), max(100, min(pauses[1], 5000)), max(200, pauses[2])
    sent = Session(
        voice=Voice(speed=speed, volume=volume, seed=seed),
        generation=Generation(temperature=temperature, max_new_tokens=tokens, seed=seed),
        turn_taking=TurnTaking(
            while_idle=Idle(pause_ms=pause_ms, complete_silence_ms=complete_ms, max_silence_ms=max_ms)
        ),
        system_prompt=prompt,
    )
    options = merge(OFFER.defaults, sent, OFFER)
    told = to_message(options, OFFER)
    again = merge(OFFER.defaults, told, OFFER)
    assert to_message(again, OFFER) == told
    assert (again.voice, again.generation, again.turn_taking) == (
        options.voice,
        options.generation,
        options.turn_taking,
    )
