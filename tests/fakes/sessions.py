"""Sessions without a conversation: what an ingress says is recorded, and what it is told is scripted.

    sessions.streams[-1].emit(outputs.ReplyText("Hello."), turn=1)       an event for the client
    sessions.streams[-1].fail(SessionTakenOverError("..."))              ends the stream with an error
    sessions.refusal = OverloadedError("...")                            the next start or resume fails

A stream opens by itself, and ends with OK when the user has said all, as one without any turn does.
"""

import asyncio
from collections.abc import AsyncGenerator

from services.orchestrator.conversation.events import Event, InputEnded, OptionsChanged
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import Output, Refused, SessionUpdated
from services.orchestrator.pipeline.session import Emitted, Stream, StreamOpened
from services.orchestrator.pipeline.sessions import ResumeRequest, Sessions, StartRequest
from services.orchestrator.ports.rooms import Samples
from services.orchestrator.ports.store import StreamFormats
from services.shared.errors import InputEndedError, SessionNotFoundError, StepAudioError


class FakeStream(Stream):
    """One stream.

    Attributes:
        heard: pieces of audio with their positions.
        told: events with the numbers of their messages.
        refused: errors with the numbers of their messages.
        ends_with_input: whether the end of the user's input ends the conversation.
    """

    def __init__(
        self,
        tenant: str,
        session_id: str,
        formats: StreamFormats,
        opening: StreamOpened,
        *,
        sequence: int,
        age_ms: int,
    ) -> None:
        self.tenant = tenant
        self.session_id = session_id
        self.formats = formats
        self.wall_s = 0.0
        self.heard: list[tuple[Samples, int]] = []
        self.told: list[tuple[Event, int]] = []
        self.refused: list[tuple[StepAudioError, int]] = []
        self.ends_with_input = True
        self.attached = True
        self._options = opening.options
        self._sequence = sequence
        self._input_end = opening.next_input_sample
        self._has_ended = False
        self._waiting: asyncio.Queue[Emitted | StepAudioError | None] = asyncio.Queue()
        self.emit(opening, elapsed_ms=age_ms)

    @property
    def options(self) -> Options:
        """See `Stream`."""
        return self._options

    @property
    def input_end_sample(self) -> int:
        """See `Stream`."""
        return self._input_end

    @property
    def is_open(self) -> bool:
        """See `Stream`."""
        return self.attached

    def emit(
        self,
        output: Output | StreamOpened,
        *,
        turn: int = 0,
        epoch: int = 1,
        message_number: int = 0,
        elapsed_ms: int = 0,
    ) -> None:
        """Send this to the client."""
        self._waiting.put_nowait(Emitted(turn, epoch, elapsed_ms, output, message_number))

    def fail(self, error: StepAudioError) -> None:
        """End the stream with this error."""
        self._waiting.put_nowait(error)

    def end(self) -> None:
        """End the conversation."""
        self._waiting.put_nowait(None)

    def hear(self, samples_16k: Samples, first_sample: int) -> None:
        """See `Stream`."""
        if self._has_ended and len(samples_16k):
            raise InputEndedError("the client has said that nothing more comes")
        self.heard.append((samples_16k, first_sample))
        self._input_end = max(self._input_end, first_sample + len(samples_16k))

    def tell(self, event: Event, *, message_number: int = 0) -> None:
        """See `Stream`."""
        self.told.append((event, message_number))
        match event:
            case InputEnded():
                self._has_ended = True
                if self.ends_with_input:
                    self.end()
            case OptionsChanged(options=options):
                self._options = options
                self.emit(SessionUpdated(options))

    def touch(self) -> None:
        """See `Stream`; nothing is noted."""

    def refuse(self, error: StepAudioError, *, message_number: int = 0) -> None:
        """See `Stream`."""
        self.refused.append((error, message_number))
        self.emit(Refused(error), message_number=message_number)

    def number(self) -> int:
        """See `Stream`."""
        self._sequence += 1
        return self._sequence

    async def events(self) -> AsyncGenerator[Emitted, None]:
        """See `Stream`."""
        while (next_one := await self._waiting.get()) is not None:
            if isinstance(next_one, StepAudioError):
                raise next_one
            yield next_one


class FakeSessions(Sessions):
    """All sessions.

    Attributes:
        formats, resume_at, resume_age_ms: of sessions that are resumed: their formats, where their input goes on, and
            their age.
        streams: all that were opened, in order.
        started, resumed: what was asked for.
        deleted: tenants and ids.
        refusal: what the next start, resume or deletion raises.
    """

    def __init__(self, options: Options) -> None:
        self.formats = StreamFormats("pcm16", 16_000, "pcm16", 24_000)
        self.resume_at = self.resume_age_ms = 0
        self.streams: list[FakeStream] = []
        self.started: list[StartRequest] = []
        self.resumed: list[ResumeRequest] = []
        self.deleted: list[tuple[str, str]] = []
        self.refusal: StepAudioError | None = None
        self._options = options

    @property
    def attached_streams(self) -> int:
        """See `Sessions`."""
        return sum(stream.attached for stream in self.streams)

    async def start(self, request: StartRequest) -> Stream:
        """See `Sessions`."""
        self.started.append(request)
        self._refuse()
        opening = StreamOpened("token-1", resumed=False, next_input_sample=0, options=request.options)
        return self._open(request.tenant, f"session-{len(self.streams)}", request.formats, opening, sequence=0)

    async def resume(self, request: ResumeRequest) -> Stream:
        """See `Sessions`."""
        self.resumed.append(request)
        self._refuse()
        opening = StreamOpened("token-2", resumed=True, next_input_sample=self.resume_at, options=self._options)
        sequence = request.received_sequence
        return self._open(request.tenant, request.session_id, self.formats, opening, sequence=sequence)

    def detach(self, stream: Stream) -> None:
        """See `Sessions`."""
        assert isinstance(stream, FakeStream)
        stream.attached = False

    async def delete(self, tenant: str, session_id: str) -> None:
        """See `Sessions`."""
        self._refuse()
        if (tenant, session_id) in self.deleted:
            raise SessionNotFoundError("no such session", session_id=session_id)
        self.deleted.append((tenant, session_id))

    def _refuse(self) -> None:
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal

    def _open(
        self, tenant: str, session_id: str, formats: StreamFormats, opening: StreamOpened, *, sequence: int
    ) -> Stream:
        age_ms = self.resume_age_ms if opening.resumed else 0
        self.streams.append(FakeStream(tenant, session_id, formats, opening, sequence=sequence, age_ms=age_ms))
        return self.streams[-1]
