"""A server process for the benchmarks of the orchestrator: its port, and later what it measured, as lines of JSON.

    python -m benchmarks.stub_server echo | scripted | silero | loudness

echo       a bare grpc.aio server that answers each message with one of the size of a reply's frame
scripted   the real API server and sessions over rooms and a store that only keep their rules; it hears silence
silero     the same with the real detector of voice activity
loudness   the same with what is loud taken for speech

All run on uvloop, as the product does.

It runs until its input ends. Whoever started it reads its processor time and memory from outside.
"""

import asyncio
import json
import random
import sys
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Final

import grpc
import uvloop

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, conversation_pb2_grpc, events_pb2
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.options import GenerationOptions, Options, Tool, VoiceOptions
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
from services.orchestrator.ingress.voice_service import VoiceService
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import ReplyTrace, Unobserved
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import VoiceActivityDetector
from services.orchestrator.ports.rooms import ChatMessage, TextPiece, Work
from services.orchestrator.ports.store import SessionStore, VoiceStore
from tests.fakes.hearing import LoudnessDetector, ScriptedDetector
from tests.fakes.rooms import OUTPUT_RATE_HZ, FakeChatModel, FakeRoom, FakeRooms, Pace, Paces
from tests.fakes.store import FakeSessionStore, FakeVoiceStore

KINDS: Final = ("echo", "scripted", "silero", "loudness")
REPLY_FRAME_BYTES: Final = 960
"""20 ms of PCM16 at 24 kHz."""
PACES: Final = Paces(reply=Pace(0.01, 0.01), speech=Pace(0.02, 0.02), wave=Pace(0.01, 0.01))
"""Speech is made six times as fast as it is heard; tokens of the user's speech are there at once."""
TICK_S: Final = 0.02
FORGET_S: Final = 1.0

Request = conversation_pb2.ConverseRequest
Response = conversation_pb2.ConverseResponse
Context = grpc.aio.ServicerContext[Request, Response]


@dataclass(slots=True)
class Measured:
    """What the server sees of itself, in seconds.

    Attributes:
        decided_s: when the reply to a turn was begun, by session and turn.
        first_request_s: from there to the reply's request to the lm.
        loop_lag_s: how late a tick of 20 ms was.
    """

    decided_s: dict[tuple[str, int], float] = field(default_factory=dict)
    first_request_s: "array[float]" = field(default_factory=lambda: array("d"))
    loop_lag_s: "array[float]" = field(default_factory=lambda: array("d"))

    async def watch_loop(self) -> None:
        """Tick until cancelled."""
        due_s = time.perf_counter()
        while True:
            due_s = max(due_s + TICK_S, time.perf_counter())
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            self.loop_lag_s.append(time.perf_counter() - due_s)


class Decisions(Unobserved):
    """Notes when replies begin."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def reply(self, session_id: str, reply: ReplyId, parent: str) -> ReplyTrace:
        """See the protocol."""
        self._measured.decided_s[session_id, reply.turn] = time.perf_counter()
        return self


class TimedChatModel(FakeChatModel):
    """Notes when it is asked."""

    def __init__(self, measured: Measured) -> None:
        super().__init__(PACES, asyncio.sleep)
        self._measured = measured

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """See the port."""
        decided_s = self._measured.decided_s.pop((work.session, work.turn))
        self._measured.first_request_s.append(time.perf_counter() - decided_s)
        async for piece in super().reply(messages, options, work, begun=begun, tools=tools):
            yield piece


class Echo(conversation_pb2_grpc.ConversationServiceServicer):
    """One message back for each, as large as a frame of a reply."""

    async def Converse(  # type: ignore[override]  # noqa: N802  # the reader-writer form; the generated name
        self, request_iterator: AsyncIterator[Request], context: Context
    ) -> None:
        """Answer."""
        data = bytes(REPLY_FRAME_BYTES)
        sequence = 0
        async for _ in request_iterator:
            sequence += 1
            chunk = audio_pb2.AudioChunk(data=data, first_sample=sequence * len(data) // 2)
            audio = events_pb2.ReplyAudio(audio=chunk, spoken_characters=sequence)
            await context.write(Response(sequence=sequence, turn=1, epoch=1, elapsed_ms=sequence, reply_audio=audio))


async def serve(kind: str) -> None:
    """Serve until the input ends."""
    measured = Measured()
    async with AsyncExitStack() as stack:
        port = await (start_echo(stack) if kind == "echo" else start_stub(stack, measured, kind))
        print(json.dumps({"port": port}), flush=True)
        watch = asyncio.create_task(measured.watch_loop())
        await asyncio.to_thread(sys.stdin.read)
        watch.cancel()
    found = {"first_request_s": measured.first_request_s.tolist(), "loop_lag_s": measured.loop_lag_s.tolist()}
    print(json.dumps(found), flush=True)


async def start_echo(stack: AsyncExitStack) -> int:
    """The bare server; returns its port."""
    server = grpc.aio.server(options=Transport().options())
    conversation_pb2_grpc.add_ConversationServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0.0)
    return port


async def start_stub(stack: AsyncExitStack, measured: Measured, kind: str) -> int:
    """The real server over stubs; returns its port."""
    rooms = FakeRooms(PACES, sleep=asyncio.sleep)
    rooms.chat = TimedChatModel(measured)
    rooms.rooms = replace(rooms.rooms, chat=rooms.chat)
    store, voices = FakeSessionStore(clock=time.time), FakeVoiceStore(clock=time.time)
    detector: VoiceActivityDetector = LoudnessDetector() if kind == "loudness" else ScriptedDetector()
    if kind == "silero":
        silero = SileroDetector()
        stack.callback(silero.close)
        detector = silero
    shared = Surroundings(
        rooms=rooms.rooms,
        voices=VoiceBook(rooms.rooms.built_in, voices),
        detector=detector,
        store=store,
        limits=PipelineLimits(),
        observer=Decisions(measured),
        clock=time.monotonic,
        wall_clock=time.time,
        chance=random.Random(1),
        default_prompt="",
    )
    sessions = await stack.enter_async_context(Sessions(shared, owner="replica"))
    calls = CallInterceptor(Tenants(), Admissions(TenantLimits()), Faults())
    server = ApiServer(services(shared, sessions, store, voices), calls, Transport())
    stack.push_async_callback(server.stop, 0.0)
    forgetting = asyncio.create_task(forget(rooms, detector, store))
    stack.callback(forgetting.cancel)
    return await server.start()


def services(shared: Surroundings, sessions: Sessions, store: SessionStore, voices: VoiceStore) -> Services:
    """All four, as a replica has them; conversations go by the clock of their surroundings."""
    options = Options(
        voice=VoiceOptions(voice_id=shared.rooms.built_in.default_name),
        generation=GenerationOptions(max_new_tokens=512, temperature=0.5, top_p=0.75, top_k=50),
    )
    offer = Offer(context_tokens=4096, max_new_tokens=1024, defaults=options)
    profile = Profile(
        offer=offer,
        native_rate_hz=OUTPUT_RATE_HZ,
        resume_window_ms=60_000,
        max_session_ms=3_600_000,
        max_utterance_ms=30_000,
        max_playout_lead_ms=shared.limits.reply.max_playout_lead_ms,
        max_idle_ms=60_000,
        server_version="benchmark",
    )
    pages = PageTokens(b"key of the benchmarks", time.time)
    return Services(
        conversation=ConversationService(
            sessions,
            store,
            shared.voices,
            profile,
            retention=Retention(),
            patience=StreamPatience(),
            clock=shared.clock,
        ),
        speech=SpeechService(
            shared.rooms, shared.detector, shared.voices, offer, limits=shared.limits, patience=SpeechPatience()
        ),
        voice=VoiceService((), voices, shared.rooms.voices, pages, lifetime_s=1000.0),
        session=SessionService(sessions, store, offer, pages),
    )


async def forget(rooms: FakeRooms, detector: VoiceActivityDetector, store: FakeSessionStore | None = None) -> None:
    """The fakes write down all that they see, for tests; here that would be a leak of the benchmark's own."""
    while True:
        await asyncio.sleep(FORGET_S)
        if store is not None:
            store.forget_gone()
        rooms.chat.asked.clear()
        rooms.chat.heard.clear()
        rooms.speech.spoken.clear()
        for room in (rooms.tokenizer, rooms.chat, rooms.speech, rooms.vocoder, rooms.voices, rooms.built_in):
            assert isinstance(room, FakeRoom)
            room.works.clear()
        if isinstance(detector, LoudnessDetector | ScriptedDetector):
            detector.streams.clear()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
