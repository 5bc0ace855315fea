"""Whoever watches the work, for traces and metrics: told what begins and ends, never asked. Calls must not raise."""

from typing import Protocol

from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.record import RoomName, TurnRecord


class ReplyTrace(Protocol):
    """One reply."""

    @property
    def traceparent(self) -> str:
        """W3C trace context that the rooms are given; empty where nothing is traced."""

    def stage(self, room: RoomName, begun_s: float, ended_s: float) -> None:
        """One request to a room is over; times are monotonic."""

    def end(self, error: Exception | None) -> None:
        """The reply is over: complete or stopped, or failed with this error."""


class Observer(Protocol):
    """One replica."""

    def reply(self, session_id: str, reply: ReplyId, parent: str) -> ReplyTrace:
        """A reply begins; parent: W3C trace context of the call that it is told on, empty without one."""

    def turn_ended(self, session_id: str, record: TurnRecord) -> None:
        """A turn is over; its record has all that was measured."""

    def silenced(self, session_id: str, reason: InterruptionReason, within_s: float) -> None:
        """A reply was interrupted, and its client told to fall silent, so long after what interrupted it had come."""

    def stream_ended(self, session_id: str, error: Exception | None) -> None:
        """A stream is over, with OK or with this error."""


class Unobserved:
    """Watches nothing; observer and trace in one."""

    traceparent = ""

    def reply(self, session_id: str, reply: ReplyId, parent: str) -> ReplyTrace:
        """See the protocol."""
        return self

    def stage(self, room: RoomName, begun_s: float, ended_s: float) -> None:
        """See the protocol."""

    def end(self, error: Exception | None) -> None:
        """See the protocol."""

    def turn_ended(self, session_id: str, record: TurnRecord) -> None:
        """See the protocol."""

    def silenced(self, session_id: str, reason: InterruptionReason, within_s: float) -> None:
        """See the protocol."""

    def stream_ended(self, session_id: str, error: Exception | None) -> None:
        """See the protocol."""
