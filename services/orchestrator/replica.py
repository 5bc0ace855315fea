"""One replica, put together: what runs behind Ray Serve (app.py) and in a plain process (__main__.py).

    settings ─> telemetry ─> rooms, store, voice activity ─> sessions ─> the gRPC server
    drain    health says NOT_SERVING, clients are told to go and have the grace for it, then everything closes

A replica is up before the rooms are: a room that is away is an error of the calls that need it, and no reason to start
the replica anew. Without the store no conversation can begin: health says NOT_SERVING while it is away or refuses.
"""

import asyncio
import gc
import importlib.metadata
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import numpy as np
from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server

from services.orchestrator.adapters.redis.connect import connect
from services.orchestrator.adapters.redis.lifetime import SessionTimes
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.adapters.redis.voices import RedisVoiceStore
from services.orchestrator.adapters.redis.watch import StoreWatch
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.adapters.smart_turn import SmartTurnModel
from services.orchestrator.adapters.telemetry import MeasuredSessionStore, TelemetryObserver, follow_sessions
from services.orchestrator.adapters.tools.registry import open_tools, read_registry
from services.orchestrator.adapters.triton.checkpoint import Checkpoint, read_checkpoint
from services.orchestrator.adapters.triton.connect import RoomAddresses, connect_rooms
from services.orchestrator.config import OrchestratorSettings, page_key, read_tenants
from services.orchestrator.conversation.options import (
    SERVED_TURN_TAKING,
    GenerationOptions,
    Options,
    ToolSpeech,
    VoiceOptions,
)
from services.orchestrator.ingress.auth import Admissions, TenantLimits
from services.orchestrator.ingress.calls import CallInterceptor
from services.orchestrator.ingress.conversation_service import ConversationService
from services.orchestrator.ingress.conversation_stream import StreamPatience
from services.orchestrator.ingress.faults import Faults
from services.orchestrator.ingress.messages import Profile
from services.orchestrator.ingress.opening import Retention
from services.orchestrator.ingress.options import Offer
from services.orchestrator.ingress.paging import PageTokens
from services.orchestrator.ingress.server import ApiServer, Services, Tls, Transport
from services.orchestrator.ingress.session_service import SessionService
from services.orchestrator.ingress.speech_service import SpeechPatience, SpeechService
from services.orchestrator.ingress.voice_service import BuiltInVoice, VoiceService
from services.orchestrator.pipeline.core import PureCore
from services.orchestrator.pipeline.limits import PipelineLimits, RationLimits, ReplyLimits
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import FRAME_SAMPLES
from services.orchestrator.ports.store import VoiceStore
from services.orchestrator.ports.tools import ToolRunner
from services.orchestrator.replay.lines import Content
from services.orchestrator.replay.recorder import Recorder, RecordingLimits
from services.shared.errors import RoomUnavailableError, StepAudioError
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT
from services.shared.prompt.speech.tags import MUSIC_TAGS
from services.shared.telemetry import catalogue
from services.shared.telemetry.metrics import Metrics
from services.shared.telemetry.tracing import open_traces

_LOG: Final = logging.getLogger(__name__)
_SERVICE: Final = "stepaudio-orchestrator"
_LOOP_PERIOD_S: Final = 0.25
_VOICE_LIFETIME_S: Final = 90 * 86_400.0
_CALLS_GRACE_S: Final = 5.0


class Replica:
    """One replica; use it as an async context manager. Leaving it ends whatever is still open.

    Args:
        settings: from the environment.

    Attributes:
        port: of the public API.
        turn_model: that judges turns, if its file was named.
    """

    def __init__(self, settings: OrchestratorSettings) -> None:
        self._settings = settings
        self._open = AsyncExitStack()
        self._lag: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.port = 0
        self.turn_model: SmartTurnModel | None = None

    @property
    def address(self) -> str:
        """host:port of the public API."""
        return f"{self._settings.api.host}:{self.port}"

    @property
    def open_sessions(self) -> int:
        """Sessions that live here."""
        return self._sessions.open_sessions

    async def __aenter__(self) -> Self:
        """Put it together and serve.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            InvalidOptionError: a setting cannot be used.
            RoomUnavailableError: an address cannot be listened at.
        """
        try:
            await self._start()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def drain(self, grace_s: float) -> None:
        """Take no call and no session any more, tell every client to go, and end what is left after the grace."""
        _LOG.info("draining", extra={"open_sessions": self.open_sessions})
        await self._server.drain()
        await self._sessions.drain(grace_s)

    async def check(self) -> None:
        """Look whether this replica can hear and keep time.

        Raises:
            StepAudioError: it cannot, and would be better begun anew.
        """
        for task, watched in ((self._lag, "event loop"), (self._watching, "store")):
            if task is None or task.done():
                raise StepAudioError(f"the {watched} is not watched any more")
        stream = self._detector.open()
        try:
            await stream.judge(np.zeros(FRAME_SAMPLES, np.float32))
        finally:
            stream.close()

    async def _start(self) -> None:
        settings, enter = self._settings, self._open
        metrics = self._start_metrics()
        traces = open_traces(settings.otlp_endpoint, service=_SERVICE)
        enter.callback(traces.close)
        observer = TelemetryObserver(metrics, traces, wall_offset_s=time.time() - time.monotonic())
        checkpoint = await asyncio.to_thread(read_checkpoint, settings.checkpoints, settings.tool_call_form)
        tools = None
        if settings.tools is not None:
            tools = await asyncio.to_thread(open_tools, read_registry(settings.tools), os.environ)
            enter.push_async_callback(tools.close)
        self.turn_model = await self._open_turn_model()
        self._detector = await asyncio.to_thread(SileroDetector)
        enter.callback(self._detector.close)
        addresses = RoomAddresses(
            settings.tokenizer_address, settings.lm_address, settings.tts_address, settings.vocoder_address
        )
        rooms = (await enter.enter_async_context(connect_rooms(addresses, checkpoint))).rooms
        connection = connect(settings.redis_url.get_secret_value())
        enter.push_async_callback(connection.close)
        times = SessionTimes(resume_window_s=settings.resume_window_s)
        store = MeasuredSessionStore(
            RedisSessionStore(connection, clock=time.time, times=times), metrics, clock=time.monotonic
        )
        kept_voices = RedisVoiceStore(connection, clock=time.time)
        shared = Surroundings(
            rooms=rooms,
            voices=VoiceBook(rooms.built_in, kept_voices),
            detector=self._detector,
            store=store,
            limits=_limits(settings),
            observer=observer,
            clock=time.monotonic,
            wall_clock=time.time,
            chance=random.Random(secrets.randbits(64)),
            default_prompt=settings.system_prompt or CHAT_SYSTEM_PROMPT,
            tools=tools,
            turn_model=self.turn_model,
        )
        owner = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        make_core = PureCore if settings.record_folder is None else enter.enter_context(_recorder(settings))
        self._sessions = await enter.enter_async_context(Sessions(shared, owner=owner, make_core=make_core))
        follow_sessions(metrics, self._sessions, max_sessions=settings.max_sessions)
        services = _services(settings, checkpoint, shared, self._sessions, kept_voices)
        await self._serve(services, metrics, connection.check)

    async def _open_turn_model(self) -> SmartTurnModel | None:
        path, sha256 = self._settings.turn_model, self._settings.turn_model_sha256
        if path is None:
            return None
        model = await asyncio.to_thread(SmartTurnModel, path, sha256=sha256)
        self._open.callback(model.close)
        return model

    def _start_metrics(self) -> Metrics:
        disable_created_metrics()  # a second series beside each, which nobody reads
        registry = CollectorRegistry()
        metrics = Metrics(catalogue.ORCHESTRATOR_METRICS, stage=catalogue.ORCHESTRATOR, registry=registry)
        listen = self._settings.metrics
        try:
            server, thread = start_http_server(listen.port, listen.host, registry)
        except OSError as error:
            raise RoomUnavailableError(f"metrics cannot listen at {listen.host}:{listen.port}: {error}") from error
        self._open.callback(thread.join)
        self._open.callback(server.server_close)
        self._open.callback(server.shutdown)
        loop = asyncio.get_running_loop()
        metrics.follow(catalogue.LOOP_TASKS, lambda: len(asyncio.all_tasks(loop)))
        self._lag = loop.create_task(_watch_loop(metrics, time.monotonic))
        self._open.push_async_callback(_cancelled, self._lag)
        return metrics

    async def _serve(self, services: Services, metrics: Metrics, check_store: Callable[[], Awaitable[None]]) -> None:
        settings, api = self._settings, self._settings.api
        tls = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            tls = await asyncio.to_thread(
                Tls.read, settings.tls_certificate, settings.tls_key, settings.tls_client_authorities
            )
        limits = TenantLimits(settings.max_tenant_sessions, settings.max_tenant_calls)
        calls = CallInterceptor(read_tenants(settings.credentials), Admissions(limits), CountedFaults(metrics))
        self._server = ApiServer(services, calls, Transport(host=api.host, port=api.port, tls=tls))
        self._open.push_async_callback(self._server.stop, _CALLS_GRACE_S)
        watch = StoreWatch(check_store, self._server.show_serving)
        metrics.follow(catalogue.AWAY_STORES, lambda: float(watch.is_away))
        await watch.begin()
        self.port = await self._server.start(is_serving=not watch.is_away)
        self._watching = asyncio.get_running_loop().create_task(watch.run())
        self._open.push_async_callback(_cancelled, self._watching)
        _LOG.info("serving", extra={"address": self.address})


class CountedFaults(Faults):
    """Errors as calls are told of them, counted by reason."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def told(self, error: Exception, *, where: str) -> StepAudioError:
        """Give the error that the client is told."""
        told = super().told(error, where=where)
        self._metrics.count(catalogue.ERRORS, reason=told.reason)
        return told


def _services(
    settings: OrchestratorSettings,
    checkpoint: Checkpoint,
    shared: Surroundings,
    sessions: Sessions,
    kept_voices: VoiceStore,
) -> Services:
    offer = _offer(settings, checkpoint, shared.tools)
    pages = PageTokens(page_key(settings), time.time)
    return Services(
        conversation=ConversationService(
            sessions,
            shared.store,
            shared.voices,
            _profile(settings, offer, shared),
            retention=Retention(),
            patience=StreamPatience(),
        ),
        speech=SpeechService(
            shared.rooms, shared.detector, shared.voices, offer, limits=shared.limits, patience=SpeechPatience()
        ),
        voice=VoiceService(
            _built_in_voices(checkpoint), kept_voices, shared.rooms.voices, pages, lifetime_s=_VOICE_LIFETIME_S
        ),
        session=SessionService(sessions, shared.store, offer, pages),
    )


def _recorder(settings: OrchestratorSettings) -> Recorder:
    assert settings.record_folder is not None
    limits = RecordingLimits(settings.record_session_mib * 2**20, settings.record_total_mib * 2**20)
    content = Content.TEXT if settings.record_text else Content.SHAPES
    return Recorder(settings.record_folder, content=content, limits=limits)


def _limits(settings: OrchestratorSettings) -> PipelineLimits:
    return PipelineLimits(
        reply=ReplyLimits(max_playout_lead_ms=settings.max_playout_lead_ms),
        rations=RationLimits(
            tenant_speculations=settings.max_tenant_speculations,
            tenant_wasted_tokens=settings.tenant_wasted_tokens,
            max_degradation=settings.max_degradation,
        ),
        max_sessions=settings.max_sessions,
        max_tenant_sessions=settings.max_tenant_sessions,
        max_session_s=settings.max_session_s,
        max_idle_s=settings.max_idle_s,
        resume_window_s=settings.resume_window_s,
    )


def _offer(settings: OrchestratorSettings, checkpoint: Checkpoint, tools: ToolRunner | None) -> Offer:
    """What callers get that choose nothing: the checkpoint's own sampling and voice, by name."""
    sampling, context_tokens = checkpoint.chat_params, checkpoint.chat_config.max_seq_len
    defaults = Options(
        voice=VoiceOptions(voice_id=settings.voice or checkpoint.voices.default_name),
        generation=GenerationOptions(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k),
        turn_taking=SERVED_TURN_TAKING,
        system_prompt=settings.system_prompt or CHAT_SYSTEM_PROMPT,
        tool_speech=ToolSpeech(notice=settings.tool_notice.strip(), apology=settings.tool_apology.strip()),
    )
    checkpoint.voices.get(defaults.voice.voice_id)  # a default that is no voice is refused now
    return Offer(
        context_tokens=context_tokens,
        max_new_tokens=context_tokens,
        defaults=defaults,
        has_turn_model=settings.turn_model is not None,
        tools=tools,
    )


def _profile(settings: OrchestratorSettings, offer: Offer, shared: Surroundings) -> Profile:
    return Profile(
        offer=offer,
        native_rate_hz=shared.rooms.vocoder.sample_rate_hz,
        resume_window_ms=round(settings.resume_window_s * 1000),
        max_session_ms=round(settings.max_session_s * 1000),
        max_utterance_ms=offer.defaults.turn_taking.max_utterance_ms,
        max_playout_lead_ms=settings.max_playout_lead_ms,
        max_idle_ms=round(settings.max_idle_s * 1000),
        server_version=importlib.metadata.version("stepaudio"),
    )


def _built_in_voices(checkpoint: Checkpoint) -> list[BuiltInVoice]:
    """The checkpoint's speakers; their recordings for music are ways to speak and no voices of their own."""
    names = checkpoint.voices.names
    spoken = [name for name in names if not name.endswith(MUSIC_TAGS)]
    return [
        BuiltInVoice(
            voice_id=name,
            clip_ms=round(checkpoint.voices.get(name).audio().duration_s * 1000),
            sings=all(f"{name}{tag}" in names for tag in MUSIC_TAGS),
        )
        for name in spoken
    ]


async def _watch_loop(metrics: Metrics, clock: Callable[[], float]) -> None:
    """Measure how late the event loop wakes this task up."""
    while True:
        due_s = clock() + _LOOP_PERIOD_S
        await asyncio.sleep(_LOOP_PERIOD_S)
        metrics.observe(catalogue.LOOP_LAG, max(clock() - due_s, 0.0))


def settle_memory() -> None:
    """Leave everything that exists now out of Python's collections, for a process that serves.

    Walking the modules of Ray, gRPC and this program stops the loop for 65 ms, which is three ticks of every session's
    audio. What is made later is collected as ever.
    """
    gc.collect()
    gc.freeze()


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel and await; a cancellation of the caller's own goes on."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
