"""The live sessions of this replica: who may begin or go on, who owns a session, and when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from services.orchestrator.conversation.events import Playback
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message
from services.orchestrator.pipeline.session import Stream
from services.orchestrator.ports.store import StreamFormats


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A client begins a session; all values are checked.

    Attributes:
        tenant: whose session it is.
        formats: of the client's audio.
        options: all values in force, defaults filled in.
        history: what was said before.
        greeting: what the agent says first; empty lets the user begin.
        labels: the caller's own.
        retention_s: how long the session can be read after its end.
    """

    tenant: str
    formats: StreamFormats
    options: Options
    history: tuple[Message, ...] = ()
    greeting: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    retention_s: int = 0


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A client goes on with a session.

    Attributes:
        tenant, session_id: which.
        resume_token: the latest one the client has.
        received_sequence: number of the last event it has.
        playback: what it heard of the last reply.
    """

    tenant: str
    session_id: str
    resume_token: str
    received_sequence: int
    playback: Playback | None = None


class Sessions:
    """Use it as `async with Sessions(...)`: leaving it ends every stream with DrainingError and waits for all work."""

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    @property
    def open_sessions(self) -> int:
        """Sessions that live here, detached ones included."""
        raise NotImplementedError

    @property
    def attached_streams(self) -> int:
        """Sessions that have a client now."""
        raise NotImplementedError

    @property
    def is_draining(self) -> bool:
        """Whether no new session is taken."""
        raise NotImplementedError

    async def start(self, request: StartRequest) -> Stream:
        """Begin a session.

        Raises:
            DrainingError, OverloadedError: this replica takes none, or none more.
            QuotaExceededError: the tenant has as many as it may (`limit`).
            VoiceNotFoundError: the voice is unknown.
            RoomUnavailableError: the store does not answer.
        """
        raise NotImplementedError

    async def resume(self, request: ResumeRequest) -> Stream:
        """Go on with a session, wherever it lived; an older stream of it ends with SessionTakenOverError.

        Raises:
            DrainingError, OverloadedError, QuotaExceededError, RoomUnavailableError: as for `start`.
            SessionNotFoundError, InvalidResumeTokenError, SessionEndedError: as they say.
            InvalidInputError: more events are said to have been received than were sent.
        """
        raise NotImplementedError

    def detach(self, stream: Stream) -> None:
        """The stream is over; call it however it ended. A session that has not ended waits to be resumed."""
        raise NotImplementedError

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete a session for good; if it lives here, its stream ends with SessionDeletedError at once.

        Raises:
            SessionNotFoundError: no such session.
            RoomUnavailableError: the store does not answer.
        """
        raise NotImplementedError

    async def drain(self, grace_s: float) -> None:
        """Take no session any more, tell every client to go, and end what is left after the grace with DrainingError.

        Returns when no session lives here; sessions stay resumable on another replica.
        """
        raise NotImplementedError
