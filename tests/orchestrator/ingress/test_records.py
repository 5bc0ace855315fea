"""Turns and times as they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.gen.stepaudio.v1 import metrics_pb2, session_pb2
from services.orchestrator.conversation.record import (
    Degradation,
    FirstAudioBreakdown,
    Origin,
    Outcome,
    ReplyWork,
    RoomName,
    RoomWork,
    SpeculationWork,
    TurnMetrics,
    TurnRecord,
)
from services.orchestrator.ingress.records import apportioned_ms, metrics_message, timestamp, turn_message

pytestmark = pytest.mark.unit


@given(st.lists(st.floats(0, 5), min_size=6, max_size=6))
def test_the_parts_of_the_first_audio_sum_exactly_to_the_whole(parts: list[float]) -> None:
    message = metrics_message(TurnMetrics(first_audio=FirstAudioBreakdown(*parts)))
    told = [
        message.breakdown.endpointing_ms,
        message.breakdown.tokenizer_ms,
        message.breakdown.lm_ms,
        message.breakdown.tts_ms,
        message.breakdown.vocoder_ms,
        message.breakdown.orchestrator_ms,
    ]
    assert message.time_to_first_audio_ms == sum(told) == round(sum(part * 1000 for part in parts))
    assert all(abs(whole - part * 1000) < 1 for whole, part in zip(told, parts, strict=True))


def test_the_largest_remainders_get_what_is_missing() -> None:
    assert apportioned_ms((0.0006, 0.0007, 0.0007)) == (0, 1, 1)


def test_without_audio_there_is_no_time_to_the_first() -> None:
    message = metrics_message(TurnMetrics())
    assert not message.HasField("time_to_first_audio_ms")
    assert not message.HasField("breakdown")


def test_a_first_audio_after_no_time_at_all_is_told_as_zero() -> None:
    message = metrics_message(TurnMetrics(first_audio=FirstAudioBreakdown(0, 0, 0, 0, 0, 0)))
    assert message.HasField("time_to_first_audio_ms")
    assert message.time_to_first_audio_ms == 0


def test_a_turn_is_told_in_wall_time_with_the_work_of_each_room() -> None:
    work = ReplyWork(rooms=(RoomWork(RoomName.LM, 1, 0.25, 0.05),), prompt_tokens=7, text_tokens=3, speech_tokens=40)
    metrics = TurnMetrics(work=work, user_audio_ms=900, reply_audio_ms=800, heard_audio_ms=700, playout_underruns=1)
    record = TurnRecord(2, Origin.SPEECH, "Hi", "Hel", Outcome.INTERRUPTED, 1.5, 3.0, metrics)
    message = turn_message(record, 1_000_000.25)
    assert (message.number, message.origin) == (2, session_pb2.TURN_ORIGIN_SPEECH)
    assert message.outcome == session_pb2.TURN_OUTCOME_INTERRUPTED
    assert (message.user_text, message.agent_text) == ("Hi", "Hel")
    assert (message.start_time.seconds, message.start_time.nanos) == (1_000_001, 750_000_000)
    room = message.metrics.rooms[0]
    assert (room.room, room.requests, room.total_ms, room.first_output_ms) == (metrics_pb2.ROOM_LM, 1, 250, 50)
    assert (message.metrics.prompt_tokens, message.metrics.text_tokens, message.metrics.speech_tokens) == (7, 3, 40)
    assert (message.metrics.heard_audio_ms, message.metrics.playout_underruns) == (700, 1)


def test_what_was_prepared_and_what_quality_was_given_up_is_told() -> None:
    ahead = SpeculationWork(
        started=3, committed=1, discarded=2, withheld=1, wasted_tokens=50, saved_ms=400, given_up=True
    )
    work = ReplyWork(degradations=(Degradation.SMALLER_FIRST_CHUNK, Degradation.FEWER_FLOW_STEPS))
    message = metrics_message(TurnMetrics(work=work, speculation=ahead))
    told = message.speculation
    assert (told.started, told.discarded, told.wasted_tokens, told.saved_ms) == (3, 2, 50, 400)
    assert list(message.degradations) == [
        metrics_pb2.DEGRADATION_SMALLER_FIRST_CHUNK,
        metrics_pb2.DEGRADATION_FEWER_FLOW_STEPS,
        metrics_pb2.DEGRADATION_NO_SPECULATION,
    ]
    assert not metrics_message(TurnMetrics()).degradations


@given(st.floats(0, 4e9))
def test_a_timestamp_is_valid_and_right_to_the_microsecond(wall_s: float) -> None:
    written = timestamp(wall_s)
    assert 0 <= written.nanos < 1_000_000_000
    assert abs(written.seconds + written.nanos / 1e9 - wall_s) < 2e-6
