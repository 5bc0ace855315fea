"""A real grpc.aio server on a loopback port, with fakes behind it, and what tests say to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from protos.gen.stepaudio.v1 import (
    audio_pb2,
    conversation_pb2,
    conversation_pb2_grpc,
    session_pb2_grpc,
    speech_pb2_grpc,
    voice_pb2_grpc,
)
from services.orchestrator.conversation.options import GenerationOptions, Options, VoiceOptions
from services.orchestrator.ingress.auth import Admissions, TenantLimits, Tenants
from services.orchestrator.ingress.calls import CallInterceptor
from services.orchestrator.ingress.conversation_service import ConversationService
from services.orchestrator.ingress.conversation_stream import StreamPatience
from services.orchestrator.ingress.faults import Faults
from services.orchestrator.ingress.messages import Profile
from services.orchestrator.ingress.opening import Retention
from services.orchestrator.ingress.options import Offer
from services.orchestrator.ingress.paging import PageTokens
from services.orchestrator.ingress.server import ApiServer, Services, Transport
from services.orchestrator.ingress.session_service import SessionService
from services.orchestrator.ingress.speech_service import SpeechPatience, SpeechService
from services.orchestrator.ingress.voice_service import BuiltInVoice, VoiceService
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.tools import ToolRunner
from tests.fakes.hearing import LoudnessDetector
from tests.fakes.rooms import FakeRooms
from tests.fakes.sessions import FakeSessions
from tests.fakes.store import FakeSessionStore, FakeVoiceStore, WallClock

Request = conversation_pb2.ConverseRequest
Response = conversation_pb2.ConverseResponse

NATIVE_RATE_HZ: Final = 22_050
PCM16: Final = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=16_000)
PCM24: Final = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=24_000)
OFFER: Final = Offer(
    context_tokens=4096,
    max_new_tokens=1024,
    defaults=Options(
        voice=VoiceOptions(voice_id="Fake"),
        generation=GenerationOptions(max_new_tokens=512, temperature=0.5, top_p=0.75, top_k=50),
    ),
)
PROFILE: Final = Profile(
    offer=OFFER,
    native_rate_hz=NATIVE_RATE_HZ,
    resume_window_ms=60_000,
    max_session_ms=3_600_000,
    max_utterance_ms=30_000,
    max_playout_lead_ms=3000,
    max_idle_ms=60_000,
    server_version="test",
)
INCIDENT: Final = "incident-7"
PATIENCE: Final = StreamPatience(first_message_s=0.3, write_s=0.3, half_close_s=0.02)
SPEECH_PATIENCE: Final = SpeechPatience(first_message_s=0.3, idle_s=0.5, write_s=0.3)


@dataclass
class Behind:
    """What stands behind the server."""

    sessions: FakeSessions = field(default_factory=lambda: FakeSessions(OFFER.defaults))
    clock: WallClock = field(default_factory=WallClock)
    rooms: FakeRooms = field(default_factory=FakeRooms)
    detector: LoudnessDetector = field(default_factory=LoudnessDetector)
    patience: StreamPatience = PATIENCE
    speech_patience: SpeechPatience = SPEECH_PATIENCE
    tools: ToolRunner | None = None

    def __post_init__(self) -> None:
        self.store = FakeSessionStore(clock=self.clock)
        self.voices = FakeVoiceStore(clock=self.clock)

    def services(self, sessions: Sessions | None) -> Services:
        """The four services over the fakes, or over these sessions."""
        sessions = sessions or self.sessions
        book = VoiceBook(self.rooms.rooms.built_in, self.voices)
        pages = PageTokens(b"key of the tests", self.clock)
        profile = replace(PROFILE, offer=replace(OFFER, tools=self.tools))
        return Services(
            conversation=ConversationService(
                sessions, self.store, book, profile, retention=Retention(), patience=self.patience
            ),
            speech=SpeechService(
                self.rooms.rooms,
                self.detector,
                book,
                OFFER,
                limits=PipelineLimits(),
                patience=self.speech_patience,
                draw_seed=lambda: 7,
            ),
            voice=VoiceService(
                (BuiltInVoice("Fake", 3000, sings=True), BuiltInVoice("Other", 2000)),
                self.voices,
                self.rooms.rooms.voices,
                pages,
                lifetime_s=1000.0,
                wall_clock=self.clock,
            ),
            session=SessionService(sessions, self.store, OFFER, pages),
        )


@dataclass
class Served:
    """A running server and a channel to it."""

    behind: Behind
    server: ApiServer
    admissions: Admissions
    port: int
    channel: grpc.aio.Channel

    @property
    def sessions(self) -> FakeSessions:
        """The sessions behind it."""
        return self.behind.sessions

    @property
    def conversation(self) -> conversation_pb2_grpc.ConversationServiceStub:
        """A client of that service."""
        return conversation_pb2_grpc.ConversationServiceStub(self.channel)

    @property
    def speech(self) -> speech_pb2_grpc.SpeechServiceStub:
        """A client of that service."""
        return speech_pb2_grpc.SpeechServiceStub(self.channel)

    @property
    def voice(self) -> voice_pb2_grpc.VoiceServiceStub:
        """A client of that service."""
        return voice_pb2_grpc.VoiceServiceStub(self.channel)

    @property
    def session(self) -> session_pb2_grpc.SessionServiceStub:
        """A client of that service."""
        return session_pb2_grpc.SessionServiceStub(self.channel)


@asynccontextmanager
async def serving(
    behind: Behind | None = None,
    *,
    sessions: Sessions | None = None,
    tenants: Tenants | None = None,
    limits: TenantLimits | None = None,
    transport: Transport | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> AsyncIterator[Served]:
    """Run a server for a while."""
    behind = behind or Behind()
    admissions = Admissions(limits or TenantLimits())
    faults = Faults(new_incident=lambda: INCIDENT)
    interceptor = CallInterceptor(tenants or Tenants(), admissions, faults)
    server = ApiServer(behind.services(sessions), interceptor, transport or Transport())
    port = await server.start()
    options = (("grpc.max_send_message_length", -1),)
    if credentials is None:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
    else:
        options_tls = (*options, ("grpc.ssl_target_name_override", "localhost"))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options_tls)
    try:
        async with channel:
            yield Served(behind, server, admissions, port, channel)
    finally:
        await server.stop(0.0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run one test on a loop of its own, never for long."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def start(**fields: object) -> Request:
    """The first message of a session."""
    message = conversation_pb2.SessionStart(input_audio=PCM16, reply_audio=PCM24)
    message.MergeFrom(conversation_pb2.SessionStart(**fields))  # type: ignore[arg-type]  # whichever fields a test sets
    return Request(start=message)


def silence(samples: int = 320, first_sample: int | None = None) -> Request:
    """A chunk of silence at 16 kHz."""
    return Request(audio=audio_pb2.AudioChunk(data=bytes(2 * samples), first_sample=first_sample))


END: Final = Request(end_of_input=conversation_pb2.EndOfInput())


async def converse(served: Served, messages: Iterable[Request]) -> list[Response]:
    """Send all messages, close the sending side, and read to the end."""
    call = served.conversation.Converse(iter(tuple(messages)))
    return [response async for response in call]


async def reads(call: grpc.aio.StreamStreamCall[Request, Response]) -> AsyncIterator[Response]:
    """All that comes, to the end."""
    while (response := await call.read()) is not grpc.aio.EOF:
        assert isinstance(response, Response)
        yield response


@dataclass(frozen=True)
class Refusal:
    """A failed call as a client reads it."""

    code: grpc.StatusCode
    message: str
    reason: str
    details: dict[str, str]
    retry_s: float | None


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """Wait for a call to fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError("the call succeeded")


async def refused_conversation(served: Served, messages: Sequence[Request]) -> Refusal:
    """Hold a conversation that fails."""
    return await refusal_of(converse(served, messages))


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Unpack a status with its details; without details the reason is empty."""
    trailer = dict(error.trailing_metadata() or ())
    raw = trailer.get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    refusal = read_status(status)
    return replace(refusal, code=error.code(), message=error.details() or "")


def read_status(status: status_pb2.Status) -> Refusal:
    """Unpack the details of a status."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_s = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_s = _seconds(retry.retry_delay)
        else:
            detail.Unpack(info)
    assert not status.details or info.domain == "stepaudio"
    codes = {code.value[0]: code for code in grpc.StatusCode}
    return Refusal(codes[status.code], status.message, info.reason, dict(info.metadata), retry_s)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
