"""A real grpc.aio server of the public API on loopback that says and does what a test has scripted.

    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("text_turn")
        await stream.send(turn=1, reply_started=ReplyStarted())

One script for each `Converse` stream, in order; when it returns, the stream ends with OK. Calls of the other services
are answered from lists, one entry a call: messages, or a `Failure`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from protos.gen.stepaudio.v1 import (
    audio_pb2,
    conversation_pb2,
    conversation_pb2_grpc,
    events_pb2,
    session_pb2,
    session_pb2_grpc,
    speech_pb2_grpc,
    voice_pb2_grpc,
)

Context = Any  # Any: grpc's types of a servicer's context are generic in both messages
Script = Callable[["ScriptedStream"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call fails; without a reason as the transport fails, without details."""

    code: grpc.StatusCode
    reason: str = ""
    message: str = "scripted"
    retry_delay_s: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def status(self) -> status_pb2.Status:
        details: list[Message] = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(domain="stepaudio", reason=self.reason, metadata=self.metadata))
        if self.retry_delay_s is not None:
            delay = Duration()
            delay.FromNanoseconds(round(self.retry_delay_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)

    async def abort(self, context: Context) -> NoReturn:
        trailers = (("grpc-status-details-bin", self.status().SerializeToString()),) if self.reason else ()
        await context.abort(self.code, self.message, trailers)
        raise AssertionError("abort raises")


CUT = Failure(grpc.StatusCode.UNAVAILABLE, message="connection lost")
DRAINING = Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay_s=0.01)


def tone(samples: int) -> bytes:
    """PCM16 of a ramp: every sample tells where it belongs."""
    return (np.arange(samples) % 30000).astype("<i2").tobytes()


class ScriptedStream:
    """One `Converse` stream, as its script sees it."""

    def __init__(self, server: "ScriptedServer", requests: AsyncIterator[Any], context: Context) -> None:
        self._server = server
        self._requests = requests
        self._context = context
        self.received: list[conversation_pb2.ConverseRequest] = []

    async def receive(self, kind: str) -> Any:
        """Read up to the next message of a kind."""
        async for request in self._requests:
            self.received.append(request)
            if request.HasField(kind):
                return getattr(request, kind)
        raise AssertionError(f"the client closed its side before {kind}")

    async def receive_audio(self, end_sample: int) -> None:
        """Read audio up to a position."""
        while True:
            chunk = await self.receive("audio")
            if chunk.first_sample + len(chunk.data) // 2 >= end_sample:
                return

    async def send(self, *, turn: int = 0, **event: Any) -> None:
        """Send one event."""
        self._server.sequence += 1
        await self._context.write(
            conversation_pb2.ConverseResponse(
                sequence=self._server.sequence, turn=turn, epoch=self._server.epoch, **event
            )
        )

    async def start_session(self, *, resume_window_ms: int = 10_000, max_idle_ms: int = 0) -> Any:
        """Read `start` and send `session_started`."""
        start = await self.receive("start")
        await self._started(start.input_audio, start.reply_audio, resume_window_ms, max_idle_ms)
        return start

    async def resume_session(self, next_input_sample: int = 0) -> Any:
        """Read `resume` and send `session_started` with a new epoch and token."""
        resume = await self.receive("resume")
        self._server.sequence = resume.received_sequence
        self._server.epoch += 1
        await self._started(None, None, 10_000, 0, resumed=True, next_input_sample=next_input_sample)
        return resume

    async def _started(
        self,
        input_audio: audio_pb2.AudioFormat | None,
        reply_audio: audio_pb2.AudioFormat | None,
        resume_window_ms: int,
        max_idle_ms: int,
        **fields: Any,
    ) -> None:
        limits = events_pb2.Limits(max_idle_ms=max_idle_ms)
        capabilities = events_pb2.Capabilities(resume_window_ms=resume_window_ms, limits=limits)
        started = events_pb2.SessionStarted(
            session_id="session-1",
            resume_token=f"token-{len(self._server.streams)}",
            input_audio=input_audio,
            reply_audio=reply_audio,
            capabilities=capabilities,
            **fields,
        )
        await self.send(session_started=started)

    async def begin_reply(self, turn: int, request_id: str = "") -> None:
        await self.send(turn=turn, reply_started=events_pb2.ReplyStarted(request_id=request_id))
        await self.send(turn=turn, reply_text=events_pb2.ReplyText(text="It rains."))

    async def send_audio(self, turn: int, first_sample: int, data: bytes) -> None:
        chunk = audio_pb2.AudioChunk(data=data, first_sample=first_sample)
        await self.send(turn=turn, reply_audio=events_pb2.ReplyAudio(audio=chunk))

    async def end_reply(self, turn: int, total_samples: int, **record: Any) -> None:
        ended = events_pb2.ReplyEnded(total_samples=total_samples, text="It rains.")
        await self.send(turn=turn, reply_ended=ended)
        await self.send(turn=turn, turn_ended=events_pb2.TurnEnded(record=session_pb2.Turn(number=turn, **record)))

    async def fail(self, failure: Failure) -> NoReturn:
        await failure.abort(self._context)


class ScriptedServer:
    """The server; an async context manager.

    Args:
        scripts: one for each `Converse` stream.
        port: 0 takes a free one.
        answers: method name -> one entry for each call: a message, a list of them for a stream, or a `Failure`.
        credentials: for TLS.
    """

    def __init__(
        self,
        *scripts: Script,
        port: int = 0,
        answers: dict[str, list[Any]] | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._scripts = list(scripts)
        self._port = port
        self._credentials = credentials
        self.answers = answers or {}
        self.streams: list[ScriptedStream] = []
        self.calls: list[tuple[str, list[Message]]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.sequence = 0
        self.epoch = 1
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(_Conversations(self), self._server)
        speech_pb2_grpc.add_SpeechServiceServicer_to_server(_Speech(self), self._server)
        voice_pb2_grpc.add_VoiceServiceServicer_to_server(_Voices(self), self._server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(_Sessions(self), self._server)
        where = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            port = self._server.add_insecure_port(where)
        else:
            port = self._server.add_secure_port(where, self._credentials)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(0)

    def note(self, context: Context) -> None:
        self.metadata.append(dict(context.invocation_metadata() or ()))

    async def answer(self, method: str, requests: list[Any], context: Context) -> Any:
        self.note(context)
        self.calls.append((method, requests))
        answer = self.answers[method].pop(0)
        if isinstance(answer, Failure):
            await answer.abort(context)
        return answer

    async def answer_parts(self, method: str, requests: list[Any], context: Context) -> AsyncIterator[Any]:
        for part in await self.answer(method, requests, context):
            if isinstance(part, Failure):
                await part.abort(context)
            yield part

    async def converse(self, requests: AsyncIterator[Any], context: Context) -> None:
        self.note(context)
        stream = ScriptedStream(self, requests, context)
        self.streams.append(stream)
        await self._scripts[len(self.streams) - 1](stream)


class _Conversations(conversation_pb2_grpc.ConversationServiceServicer):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def Converse(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]  # noqa: N802 - the call's name; it writes to the context instead of yielding
        await self._server.converse(request_iterator, context)


class _Speech(speech_pb2_grpc.SpeechServiceServicer):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def Synthesize(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the call's name
        async for part in self._server.answer_parts("Synthesize", [request], context):
            yield part

    async def Chat(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the call's name
        async for part in self._server.answer_parts("Chat", [request], context):
            yield part

    async def Transcribe(self, request_iterator: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the call's name
        requests = [request async for request in request_iterator]
        async for part in self._server.answer_parts("Transcribe", requests, context):
            yield part


def _unary(method: str) -> Callable[[Any, Any, Context], Awaitable[Any]]:
    async def call(self: Any, request: Any, context: Context) -> Any:
        return await self._server.answer(method, [request], context)

    return call


class _Voices(voice_pb2_grpc.VoiceServiceServicer):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    CreateVoice = _unary("CreateVoice")  # type: ignore[assignment]  # answered from a list, whatever it is
    ListVoices = _unary("ListVoices")  # type: ignore[assignment]  # as above
    GetVoice = _unary("GetVoice")  # type: ignore[assignment]  # as above
    DeleteVoice = _unary("DeleteVoice")  # type: ignore[assignment]  # as above


class _Sessions(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    GetSession = _unary("GetSession")  # type: ignore[assignment]  # as above
    ListTurns = _unary("ListTurns")  # type: ignore[assignment]  # as above
    DeleteSession = _unary("DeleteSession")  # type: ignore[assignment]  # as above


async def forever(stream: ScriptedStream) -> None:
    """A script's end that never comes."""
    await asyncio.Event().wait()
