"""Turns as they are told: the core's records and the store's kept turns as `Turn`, times and metrics with them.

The parts of the time to first audio are told in whole milliseconds that sum exactly to the whole: each part is rounded
down, and what is missing goes to the parts that lost most (largest remainder).
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from protos.gen.stepaudio.v1 import metrics_pb2, session_pb2
from services.orchestrator.conversation.record import (
    Degradation,
    FirstAudioBreakdown,
    Origin,
    Outcome,
    RoomName,
    TurnMetrics,
    TurnRecord,
)
from services.orchestrator.ingress.tools import exchange_message
from services.orchestrator.ports.store import KeptTurn

ORIGINS: Final[Mapping[Origin, session_pb2.TurnOrigin.ValueType]] = MappingProxyType(
    {
        Origin.SPEECH: session_pb2.TURN_ORIGIN_SPEECH,
        Origin.TEXT: session_pb2.TURN_ORIGIN_TEXT,
        Origin.SAY: session_pb2.TURN_ORIGIN_SAY,
    }
)
_OUTCOMES: Final[Mapping[Outcome, session_pb2.TurnOutcome.ValueType]] = MappingProxyType(
    {
        Outcome.COMPLETED: session_pb2.TURN_OUTCOME_COMPLETED,
        Outcome.INTERRUPTED: session_pb2.TURN_OUTCOME_INTERRUPTED,
        Outcome.FAILED: session_pb2.TURN_OUTCOME_FAILED,
    }
)
_ROOMS: Final[Mapping[RoomName, metrics_pb2.Room.ValueType]] = MappingProxyType(
    {
        RoomName.TOKENIZER: metrics_pb2.ROOM_TOKENIZER,
        RoomName.LM: metrics_pb2.ROOM_LM,
        RoomName.TTS: metrics_pb2.ROOM_TTS,
        RoomName.VOCODER: metrics_pb2.ROOM_VOCODER,
    }
)
_DEGRADATIONS: Final[Mapping[Degradation, metrics_pb2.Degradation.ValueType]] = MappingProxyType(
    {
        Degradation.SMALLER_FIRST_CHUNK: metrics_pb2.DEGRADATION_SMALLER_FIRST_CHUNK,
        Degradation.FEWER_FLOW_STEPS: metrics_pb2.DEGRADATION_FEWER_FLOW_STEPS,
        Degradation.NO_SPECULATION: metrics_pb2.DEGRADATION_NO_SPECULATION,
    }
)


def timestamp(wall_s: float) -> Timestamp:
    """Write wall-clock seconds, to the microsecond: what a float of today's seconds holds."""
    micros = round(wall_s * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, the nearest."""
    return round(seconds * 1000)


def turn_message(record: TurnRecord, wall_s: float) -> session_pb2.Turn:
    """Write a turn of the core.

    Args:
        record: with monotonic times.
        wall_s: what added to a monotonic time gives wall time.
    """
    return session_pb2.Turn(
        number=record.number,
        origin=ORIGINS[record.origin],
        user_text=record.user_text,
        agent_text=record.agent_text,
        outcome=_OUTCOMES[record.outcome],
        start_time=timestamp(record.started_s + wall_s),
        end_time=timestamp(record.ended_s + wall_s),
        metrics=metrics_message(record.metrics),
        tool_exchanges=[exchange_message(exchange) for exchange in record.tool_exchanges],
    )


def kept_turn_message(turn: KeptTurn) -> session_pb2.Turn:
    """Write a turn of the store."""
    return session_pb2.Turn(
        number=turn.number,
        origin=ORIGINS[turn.origin],
        user_text=turn.user_text,
        agent_text=turn.agent_text,
        outcome=_OUTCOMES[turn.outcome],
        start_time=timestamp(turn.start_s),
        end_time=timestamp(turn.end_s),
        metrics=metrics_message(turn.metrics),
        tool_exchanges=[exchange_message(exchange) for exchange in turn.tool_exchanges],
    )


def metrics_message(metrics: TurnMetrics) -> metrics_pb2.TurnMetrics:
    """Write what a turn took; without any audio there is no time to the first."""
    message = metrics_pb2.TurnMetrics(
        user_audio_ms=metrics.user_audio_ms,
        reply_audio_ms=metrics.reply_audio_ms,
        heard_audio_ms=metrics.heard_audio_ms,
        playout_underruns=metrics.playout_underruns,
        prompt_tokens=metrics.work.prompt_tokens,
        text_tokens=metrics.work.text_tokens,
        speech_tokens=metrics.work.speech_tokens,
        rooms=[
            metrics_pb2.RoomMetrics(
                room=_ROOMS[work.room],
                requests=work.requests,
                total_ms=milliseconds(work.total_s),
                first_output_ms=milliseconds(work.first_output_s),
            )
            for work in metrics.work.rooms
        ],
        speculation=metrics_pb2.SpeculationMetrics(
            started=metrics.speculation.started,
            discarded=metrics.speculation.discarded,
            wasted_tokens=metrics.speculation.wasted_tokens,
            saved_ms=metrics.speculation.saved_ms,
        ),
        degradations=[_DEGRADATIONS[degradation] for degradation in metrics.degradations],
    )
    if metrics.first_audio is not None:
        breakdown = _breakdown_message(metrics.first_audio)
        message.breakdown.CopyFrom(breakdown)
        message.time_to_first_audio_ms = sum(value for _, value in breakdown.ListFields())
    return message


def _breakdown_message(parts: FirstAudioBreakdown) -> metrics_pb2.FirstAudioBreakdown:
    rounded = apportioned_ms(
        (
            parts.endpointing_s,
            parts.tokenizer_s,
            parts.lm_s,
            parts.tts_s,
            parts.vocoder_s,
            parts.orchestrator_s,
        )
    )
    endpointing, tokenizer, lm, tts, vocoder, orchestrator = rounded
    return metrics_pb2.FirstAudioBreakdown(
        endpointing_ms=endpointing,
        tokenizer_ms=tokenizer,
        lm_ms=lm,
        tts_ms=tts,
        vocoder_ms=vocoder,
        orchestrator_ms=orchestrator,
    )


def apportioned_ms(parts_s: Sequence[float]) -> tuple[int, ...]:
    """Round parts to whole milliseconds so that their sum is the rounded sum of the parts."""
    exact = [part * 1000 for part in parts_s]
    floors = [math.floor(part) for part in exact]
    missing = round(sum(exact)) - sum(floors)
    by_loss = sorted(range(len(exact)), key=lambda part: floors[part] - exact[part])
    for part in by_loss[: max(0, missing)]:
        floors[part] += 1
    return tuple(floors)
