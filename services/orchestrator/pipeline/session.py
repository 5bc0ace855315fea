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

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.conversation.events import Event
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import Output, ReplyAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.ports.rooms import Samples
from services.orchestrator.ports.store import StreamFormats
from services.shared.errors import SlowConsumerError, StepAudioError

_log = logging.getLogger(__name__)


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


class Host(Protocol):
    """The session behind its streams; what a stream says that is not the newest has no effect."""

    @property
    def options(self) -> Options:
        """In force."""

    @property
    def input_end_sample(self) -> int:
        """Position after the last sample heard."""

    def hear(self, stream: "Stream", samples: Samples, first_sample: int) -> None:
        """See `Stream.hear`."""

    def tell_from(self, stream: "Stream", event: Event, message_number: int) -> None:
        """See `Stream.tell`."""

    def touch(self, stream: "Stream") -> None:
        """See `Stream.touch`."""

    def refuse(self, stream: "Stream", error: StepAudioError, message_number: int) -> None:
        """See `Stream.refuse`."""

    def is_current(self, stream: "Stream") -> bool:
        """Whether the session listens to this stream."""


class Stream:
    """One connection's hold of a session. All methods belong to the event loop; none but `events` waits.

    Args:
        host: the session.
        session_id, tenant, formats: the session's; formats never change.
        received_sequence: number of the last event that the client has.
        wall_s: what added to a monotonic time gives wall time: of this session, the same whenever it is asked for.
        reply_rate_hz: of the samples of replies.
        limits: what the client may leave unread.
    """

    def __init__(
        self,
        host: Host,
        *,
        session_id: str,
        tenant: str,
        formats: StreamFormats,
        received_sequence: int,
        wall_s: float,
        reply_rate_hz: int,
        limits: PipelineLimits,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.formats = formats
        self.sequence = received_sequence
        self.wall_s = wall_s
        self._host = host
        self._reply_rate_hz = reply_rate_hz
        self._limits = limits
        self._unread: deque[Emitted | asyncio.Event | Callable[[], None]] = deque()
        self._unread_samples = 0
        self._has_news = asyncio.Event()
        self._is_over = False
        self._error: StepAudioError | None = None

    @property
    def options(self) -> Options:
        """In force now: what an `OptionsChanged` is merged from."""
        return self._host.options

    @property
    def input_end_sample(self) -> int:
        """Position at 16 kHz after the last sample that was heard: of `EndOfTurn` and `InputEnded`."""
        return self._host.input_end_sample

    @property
    def is_open(self) -> bool:
        """Whether the session still listens to this stream."""
        return not self._is_over and self._host.is_current(self)

    def hear(self, samples_16k: Samples, first_sample: int) -> None:
        """Take the user's audio; it costs microseconds.

        Args:
            samples_16k: float32 [N], -1..1, at 16 kHz; the session keeps this array.
            first_sample: position of the first one. What was heard before is dropped, a gap is heard as silence.

        Raises:
            InputEndedError: the client has said that nothing more comes; nothing is heard.
            InvalidInputError: the gap is longer than a session can have been silent; nothing is heard.
        """
        self._host.hear(self, samples_16k, first_sample)

    def tell(self, event: Event, *, message_number: int = 0) -> None:
        """Take an event of the client, in order with its audio; what the core refuses comes back as `Refused`.

        `EndOfTurn`, `InputEnded`, `TextTurn`, `Say`, `Interrupt`, `Acknowledged` and `OptionsChanged` are for the
        ingress; the rest is told by the pipeline itself.

        Args:
            event: what happened. `at_s` is raised to the time at which the core gets to hear of it.
            message_number: of the client's message, for a refusal.
        """
        self._host.tell_from(self, event, message_number)

    def touch(self) -> None:
        """A message came that is neither heard nor told: the client is alive and has its resume token."""
        self._host.touch(self)

    def refuse(self, error: StepAudioError, *, message_number: int = 0) -> None:
        """Send a `Refused` of the ingress's own in order with the other events."""
        self._host.refuse(self, error, message_number)

    def number(self) -> int:
        """Give the number of one event that is sent to the client, from 1 without gaps in a session.

        An output becomes none, one or more events: reply audio is cut into the client's chunks. Whoever sends asks once
        for each event, in the order sent.
        """
        self.sequence += 1
        return self.sequence

    async def events(self) -> AsyncGenerator[Emitted, None]:
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
            RoomUnavailableError: the store has been away for too long; what is kept of the session can be resumed.
            StepAudioError: (INTERNAL) a fault of the server's; what is kept of the session can be resumed.
        """
        while True:
            while self._unread:
                match self._unread.popleft():
                    case Emitted() as emitted:
                        self._unread_samples -= _reply_samples(emitted)
                        yield emitted
                    case asyncio.Event() as is_released:
                        await self._wait_briefly(is_released)
                    case act:
                        act()
            if self._is_over:
                break
            self._has_news.clear()
            await self._has_news.wait()
        if self._error is not None:
            raise self._error

    # The session's side.

    def send(self, emitted: Emitted) -> None:
        """Queue an event.

        Raises:
            SlowConsumerError: the client has left too much unread; nothing more is queued.
        """
        if self._is_over:
            return
        self._unread.append(emitted)
        self._unread_samples += _reply_samples(emitted)
        self._has_news.set()
        unread_ms = self._unread_samples * 1000 / self._reply_rate_hz
        if unread_ms > self._limits.unread_ms or len(self._unread) > self._limits.unread_events:
            raise SlowConsumerError("the client does not read what it is sent")

    def hold(self) -> Callable[[], None]:
        """What is queued from here on waits until the function that is given back is called, or for `saved_s`."""
        is_released = asyncio.Event()
        self._unread.append(is_released)
        self._has_news.set()
        return is_released.set

    def when_taken(self, act: Callable[[], None]) -> None:
        """Do something once all that is queued so far was taken and sent: never, if the stream ends before."""
        self._unread.append(act)
        self._has_news.set()

    async def _wait_briefly(self, is_released: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._limits.saved_s):
                await is_released.wait()
        except TimeoutError:
            _log.warning("audio is sent that another replica could not make again: the store is slow or away")

    def finish(self, error: StepAudioError | None, *, with_unread: bool = True) -> None:
        """End the stream, after what is unread or at once."""
        if not self._is_over:
            self._is_over = True
            self._error = error
            if not with_unread:
                self._unread.clear()
            self._has_news.set()


def _reply_samples(emitted: Emitted) -> int:
    output = emitted.output
    return output.end_sample - output.first_sample if isinstance(output, ReplyAudio) else 0
