"""Which session it is, how a stream of it begins, and what becomes of it when it ends on this replica."""

from dataclasses import dataclass
from enum import StrEnum

from services.orchestrator.conversation.events import Resumed
from services.orchestrator.ports.store import Lease, StreamFormats


@dataclass(frozen=True, slots=True)
class Identity:
    """Which session it is; `created_s` is wall time."""

    session_id: str
    tenant: str
    formats: StreamFormats
    created_s: float


@dataclass(frozen=True, slots=True)
class Opening:
    """A new stream: its token with the digest, the newest lease, and for a resume what the client has and heard.

    `traceparent` is the trace context of its call.
    """

    token: str
    digest: str
    lease: Lease
    received_sequence: int = 0
    ended_turn: int = 0
    resumed: Resumed | None = None
    traceparent: str = ""


class Fate(StrEnum):
    """What becomes of a session that ends here."""

    OVER = "over"
    """Its turns are kept, and it can only be read."""
    DROPPED = "dropped"
    """Nobody ever said anything: it is deleted."""
    RELEASED = "released"
    """It can be resumed on another replica."""
    LOST = "lost"
    """Somebody else has it, or it was deleted: nothing more is written."""
