"""Turns between the core, whose times are monotonic, and the store, whose times are the wall's."""

from services.orchestrator.conversation.effects import SaveOpenTurn
from services.orchestrator.conversation.outputs import TurnEnded
from services.orchestrator.conversation.record import TurnRecord
from services.orchestrator.pipeline.made import Made
from services.orchestrator.ports.store import KeptTurn, OpenTurn


def kept_turn(record: TurnRecord, wall_s: float) -> KeptTurn:
    """A turn as it is kept.

    Args:
        record: the core's.
        wall_s: what added to a monotonic time gives wall time.
    """
    return KeptTurn(
        number=record.number,
        origin=record.origin,
        user_text=record.user_text,
        agent_text=record.agent_text,
        outcome=record.outcome,
        start_s=_whole_us(record.started_s + wall_s),
        end_s=_whole_us(record.ended_s + wall_s),
        metrics=record.metrics,
        request_id=record.request_id,
        tool_exchanges=record.tool_exchanges,
    )


def ended_turn(turn: KeptTurn, wall_s: float, *, reply_rate_hz: int) -> TurnEnded:
    """The end of a kept turn as the client is told of it; what went wrong with it is not kept."""
    record = TurnRecord(
        number=turn.number,
        origin=turn.origin,
        user_text=turn.user_text,
        agent_text=turn.agent_text,
        outcome=turn.outcome,
        started_s=turn.start_s - wall_s,
        ended_s=turn.end_s - wall_s,
        metrics=turn.metrics,
        request_id=turn.request_id,
        tool_exchanges=turn.tool_exchanges,
    )
    return TurnEnded(record, turn.metrics.heard_audio_ms * reply_rate_hz // 1000)


def open_turn(effect: SaveOpenTurn, made: Made, tokens: tuple[int, ...]) -> OpenTurn:
    """The turn under way as it is kept.

    Args:
        effect: the core's.
        made: what was made of its reply.
        tokens: of the utterance that it answers, as far as they are there.
    """
    return OpenTurn(
        number=effect.number,
        epoch=effect.epoch,
        origin=effect.origin,
        request_id=effect.request_id,
        user_text=effect.user_text,
        agent_text=effect.agent_text,
        basis=effect.basis,
        written=made.written,
        is_written=made.is_written,
        tokens=() if effect.user_text else tokens,
    )


def _whole_us(wall_s: float) -> float:
    """To the microsecond, as clients are told: rounded here once, a turn has the same times wherever it is read."""
    return round(wall_s * 1_000_000) / 1_000_000
