"""What an ingress holds of a conversation: one stream of a session, and what comes out of it.

A session outlives its streams: each start and each resume gives a new `Stream`, and only the newest one is heard. What
an older one still says is ignored, so that a late message of a lost connection does no harm.

    async with Sessions(...) as sessions:
        stream = await sessions.start(request)          or  await sessions.resume(request)
        try:
            async for emitted in stream.events(): ...   beside it, as messages come: stream.hear(...), stream.tell(...)
        finally:
            sessions.detach(stream)
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.orchestrator.conversation.events import Event
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.ports.rooms import Samples
from services.orchestrator.ports.store import StreamFormats
from services.shared.errors import StepAudioError


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The session is ready: the first output of every stream, sent to the client as `session_started`.

    Attributes:
        resume_token: the secret that the next resume needs; new with every stream.
        resumed: whether this stream resumed a session.
        next_input_sample: of the user's audio at 16 kHz that is needed next.
        options: in force.
    """

    resume_token: str
    resumed: bool
    next_input_sample: int
    options: Options


@dataclass(frozen=True, slots=True)
class Emitted:
    """One event for the client.

    Attributes:
        turn: that it belongs to; 0 where it belongs to none.
        epoch: in which it was made.
        elapsed_ms: age of the session.
        output: what happened.
        message_number: of the client's message that a `Refused` answers; 0 where none is meant.
    """

    turn: int
    epoch: int
    elapsed_ms: int
    output: Output | StreamOpened
    message_number: int = 0


class Stream:
    """One connection's hold of a session. All methods belong to the event loop; none but `events` waits.

    Attributes:
        session_id, tenant, formats: the session's; formats never change.
    """

    session_id: str
    tenant: str
    formats: StreamFormats

    @property
    def options(self) -> Options:
        """In force now: what an `OptionsChanged` is merged from."""
        raise NotImplementedError

    @property
    def input_end_sample(self) -> int:
        """Position at 16 kHz after the last sample that was heard: of `EndOfTurn` and `InputEnded`."""
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        """Whether the session still listens to this stream."""
        raise NotImplementedError

    def hear(self, samples_16k: Samples, first_sample: int) -> None:
        """Take the user's audio; it costs microseconds.

        Args:
            samples_16k: float32 [N], -1..1, at 16 kHz.
            first_sample: position of the first one. What was heard before is dropped, a gap is heard as silence.

        Raises:
            InputEndedError: the client has said that nothing more comes; nothing is heard.
            InvalidInputError: the gap is longer than a session can have been silent; nothing is heard.
        """
        raise NotImplementedError

    def tell(self, event: Event, *, message_number: int = 0) -> None:
        """Take an event of the client, in order with its audio; what the core refuses comes back as `Refused`.

        `EndOfTurn`, `InputEnded`, `TextTurn`, `Say`, `Interrupt`, `Acknowledged` and `OptionsChanged` are for the
        ingress; the rest is told by the pipeline itself.

        Args:
            event: what happened. `at_s` is raised to the time at which the core gets to hear of it.
            message_number: of the client's message, for a refusal.
        """
        raise NotImplementedError

    def touch(self) -> None:
        """A message came that is neither heard nor told: the client is alive and has its resume token."""
        raise NotImplementedError

    def refuse(self, error: StepAudioError, *, message_number: int = 0) -> None:
        """Send a `Refused` of the ingress's own in order with the other events."""
        raise NotImplementedError

    def number(self, emitted: Emitted) -> int:
        """Give the number of one event that is sent to the client for an output, from 1 without gaps in a session.

        An output becomes none, one or more events: reply audio is cut into the client's chunks. Whoever sends asks once
        for each event, in the order sent; what a resume later compares is what was given out here.
        """
        raise NotImplementedError

    def events(self) -> AsyncGenerator[Emitted, None]:
        """Give the session's events in order, `StreamOpened` first; to be iterated once.

        It ends where the conversation has ended (status OK).

        Raises:
            SessionTakenOverError: a newer stream owns the session, here or elsewhere.
            SessionDeletedError: the session was deleted.
            SessionTooLongError: it has reached its longest time.
            InputIdleError: the client said nothing for too long; the session can be resumed.
            SlowConsumerError: the client did not take its events; the session can be resumed.
            DrainingError: the replica shuts down; the session can be resumed elsewhere.
            OverloadedError: the user's audio comes faster than it can be judged; the session can be resumed.
            StepAudioError: (INTERNAL) a fault of the server's; what is kept of the session can be resumed.
        """
        raise NotImplementedError
