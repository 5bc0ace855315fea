"""What the pipeline's observer sees and what the store takes, as metrics, traces and a line of log a turn.

    the caller's span, if its call of Converse brought one
    └── turn                              one span a reply; its rooms' own spans, in their processes, are its children
        ├── tokenizer                     from the last of the user's speech to its tokens
        └── lm, tts, vocoder              one span a request

It measures nothing itself but the store: a turn's times are those of its record, which the caller is told too.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.record import RoomName, TurnRecord
from services.orchestrator.pipeline.observer import ReplyTrace
from services.orchestrator.ports.store import (
    KeptSession,
    KeptTurn,
    Lease,
    NewSession,
    OpenTurn,
    Progress,
    Resumption,
    SessionStore,
)
from services.shared.errors import StepAudioError
from services.shared.telemetry import catalogue
from services.shared.telemetry.logs import log_context
from services.shared.telemetry.metrics import Metrics
from services.shared.telemetry.tracing import Attributes, Span, Traces

_LOG: Final = logging.getLogger(__name__)
_TURN: Final = "turn"


class OpenSessions(Protocol):
    """What is asked of a replica's sessions whenever its metrics are read."""

    @property
    def open_sessions(self) -> int:
        """Sessions that live here."""

    @property
    def attached_streams(self) -> int:
        """Those that have a client now."""

    @property
    def is_draining(self) -> bool:
        """Whether no new session is taken."""

    @property
    def degradation_level(self) -> int:
        """How much of their quality is given up now, 0 for nothing."""


def follow_sessions(metrics: Metrics, sessions: OpenSessions, *, max_sessions: int) -> None:
    """Have the gauges of sessions show what a replica has whenever they are read."""
    metrics.follow(catalogue.OPEN_SESSIONS, lambda: sessions.open_sessions)
    metrics.follow(catalogue.ATTACHED_SESSIONS, lambda: sessions.attached_streams)
    metrics.follow(catalogue.DRAINING_SESSIONS, lambda: sessions.open_sessions if sessions.is_draining else 0)
    metrics.follow(catalogue.MAX_SESSIONS, lambda: max_sessions)
    metrics.follow(catalogue.DEGRADATION_LEVEL, lambda: sessions.degradation_level)


class TelemetryObserver:
    """Watches a replica.

    Args:
        metrics: of the orchestrator's catalogue.
        traces: where a reply's spans go.
        wall_offset_s: wall clock minus monotonic clock.
    """

    def __init__(self, metrics: Metrics, traces: Traces, *, wall_offset_s: float) -> None:
        self._metrics = metrics
        self._traces = traces
        self._wall_offset_s = wall_offset_s

    def reply(self, session_id: str, reply: ReplyId, parent: str) -> ReplyTrace:
        """A reply begins."""
        attributes: Attributes = {"session": session_id, "turn": reply.turn, "epoch": reply.epoch}
        return _TracedReply(
            self._traces,
            self._traces.begin(_TURN, parent=parent, attributes=attributes),
            wall_offset_s=self._wall_offset_s,
        )

    def turn_ended(self, session_id: str, record: TurnRecord) -> None:
        """A turn is over: count it, and put its times where they belong."""
        metrics, count, observe = record.metrics, self._metrics.count, self._metrics.observe
        count(catalogue.ENDED_TURNS, origin=record.origin, outcome=record.outcome)
        if (first := metrics.first_audio) is not None:
            observe(catalogue.FIRST_AUDIO, first.total_s, origin=record.origin)
            for part in catalogue.FIRST_AUDIO_PARTS:
                observe(catalogue.FIRST_AUDIO_PART, getattr(first, f"{part}_s"), part=part)
        for room in metrics.work.rooms:
            count(catalogue.ROOM_REQUESTS, room.requests, room=room.room)
            observe(catalogue.ROOM_FIRST_OUTPUT, room.first_output_s, room=room.room)
            observe(catalogue.ROOM_ANSWER, room.total_s, room=room.room)
        for kind in ("prompt", "text", "speech"):
            count(catalogue.TOKENS, getattr(metrics.work, f"{kind}_tokens"), kind=kind)
        count(catalogue.USER_AUDIO, metrics.user_audio_ms / 1000)
        count(catalogue.REPLY_AUDIO, metrics.reply_audio_ms / 1000)
        count(catalogue.HEARD_AUDIO, metrics.heard_audio_ms / 1000)
        count(catalogue.UNDERRUNS, metrics.playout_underruns)
        ahead = metrics.speculation
        for outcome in catalogue.SPECULATION_OUTCOMES:
            count(catalogue.SPECULATIONS, getattr(ahead, outcome), outcome=outcome)
        count(catalogue.WASTED_TOKENS, ahead.wasted_tokens)
        count(catalogue.SAVED_TIME, ahead.saved_ms / 1000)
        for degradation in metrics.degradations:
            count(catalogue.DEGRADED_TURNS, degradation=degradation)
        count(catalogue.UNDERRUN_TURNS, min(metrics.playout_underruns, 1))
        for call in record.tool_exchanges:
            if call.executor is None:
                count(catalogue.TOOL_CALLS, executor="none", outcome="invalid")
                continue
            count(catalogue.TOOL_CALLS, executor=call.executor, outcome=call.outcome)
            observe(catalogue.TOOL_TIME, call.duration_s, executor=call.executor)
        with log_context(session=session_id, turn=record.number):
            _LOG.info("turn ended", extra=_told_of(record))

    def silenced(self, session_id: str, reason: InterruptionReason, within_s: float) -> None:
        """An interrupted reply has fallen silent, as far as the server can see to it."""
        self._metrics.observe(catalogue.BARGE_IN_SILENCE, within_s, reason=reason)

    def stream_ended(self, session_id: str, error: Exception | None) -> None:
        """A stream is over."""
        reason = _reason(error)
        self._metrics.count(catalogue.ENDED_STREAMS, reason=reason)
        with log_context(session=session_id):
            _LOG.info("stream ended", extra={"reason": reason})


class _TracedReply:
    def __init__(self, traces: Traces, turn: Span, *, wall_offset_s: float) -> None:
        self._traces = traces
        self._turn = turn
        self._wall_offset_s = wall_offset_s

    @property
    def traceparent(self) -> str:
        return self._turn.traceparent

    def stage(self, room: RoomName, begun_s: float, ended_s: float) -> None:
        span = self._traces.begin(room, parent=self._turn.traceparent, at_s=begun_s + self._wall_offset_s)
        span.end(at_s=ended_s + self._wall_offset_s)

    def end(self, error: Exception | None) -> None:
        self._turn.end(error=error)


class MeasuredSessionStore:
    """A store whose requests are timed, and whose sessions are counted.

    Args:
        store: that answers.
        metrics: of the orchestrator's catalogue.
        clock: monotonic seconds.
    """

    def __init__(self, store: SessionStore, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock

    async def create(self, session: NewSession, *, owner: str, token_digest: str) -> Lease:
        """See the port."""
        with self._timed("create"):
            lease = await self._store.create(session, owner=owner, token_digest=token_digest)
        self._metrics.count(catalogue.BEGUN_SESSIONS, how="new")
        return lease

    async def resume(self, tenant: str, session_id: str, *, owner: str, token_digest: str) -> Resumption:
        """See the port."""
        with self._timed("resume"):
            resumption = await self._store.resume(tenant, session_id, owner=owner, token_digest=token_digest)
        self._metrics.count(catalogue.BEGUN_SESSIONS, how="resumed")
        return resumption

    async def add_token(self, lease: Lease, token_digest: str) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.add_token(lease, token_digest)

    async def confirm_token(self, lease: Lease, token_digest: str) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.confirm_token(lease, token_digest)

    async def renew(self, lease: Lease, progress: Progress) -> None:
        """See the port."""
        with self._timed("renew"):
            await self._store.renew(lease, progress)

    async def save_options(self, lease: Lease, options: Options) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.save_options(lease, options)

    async def save_open_turn(self, lease: Lease, turn: OpenTurn) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.save_open_turn(lease, turn)

    async def commit_turn(self, lease: Lease, turn: KeptTurn) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.commit_turn(lease, turn)

    async def end(self, lease: Lease) -> None:
        """See the port."""
        with self._timed("write"):
            await self._store.end(lease)

    async def get(self, tenant: str, session_id: str) -> KeptSession:
        """See the port."""
        with self._timed("read"):
            return await self._store.get(tenant, session_id)

    async def turns(self, tenant: str, session_id: str, *, after: int, limit: int) -> tuple[KeptTurn, ...]:
        """See the port."""
        with self._timed("read"):
            return await self._store.turns(tenant, session_id, after=after, limit=limit)

    async def delete(self, tenant: str, session_id: str) -> None:
        """See the port."""
        with self._timed("delete"):
            await self._store.delete(tenant, session_id)

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        started_s = self._clock()
        try:
            yield
        finally:
            self._metrics.observe(catalogue.STORE, self._clock() - started_s, operation=operation)


def _told_of(record: TurnRecord) -> dict[str, object]:
    """What a log says of a turn: how it went and how long it took, and no word of it."""
    first = record.metrics.first_audio
    parts = {part: round(getattr(first, f"{part}_s"), 4) for part in catalogue.FIRST_AUDIO_PARTS} if first else {}
    return {
        "origin": record.origin,
        "outcome": record.outcome,
        "reason": _reason(record.error),
        "first_audio_s": round(first.total_s, 4) if first else None,
        "first_audio_parts_s": parts,
        "reply_audio_ms": record.metrics.reply_audio_ms,
        "heard_audio_ms": record.metrics.heard_audio_ms,
        "degradations": [str(degradation) for degradation in record.metrics.degradations],
    }


def _reason(error: Exception | None) -> str:
    if error is None:
        return catalogue.OK
    return error.reason if isinstance(error, StepAudioError) else StepAudioError.reason
