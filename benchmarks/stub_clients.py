"""Paced callers for the benchmarks of the orchestrator: 20 ms of audio every 20 ms, and what came back when.

    STEADY   silence all the time, while the agent speaks one long text: frames in both directions
    TURNS    0.6 s of noise, then 2.4 s of silence in which the turn ends and the agent answers, again and again

A caller holds one conversation properly: it ends it and deletes the session, so that nothing of it is left behind.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import grpc
import numpy as np

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, conversation_pb2_grpc, session_pb2, session_pb2_grpc
from services.local.settings import ROOT

FRAME_MS: Final = 20
FRAME_S: Final = FRAME_MS / 1000
INPUT_RATE_HZ, REPLY_RATE_HZ = 16_000, 24_000
NOISE_FRAMES, TURN_FRAMES = 30, 150
LONG_TEXT: Final = "All of this is spoken, one word after another. " * 20
END_TIMEOUT_S: Final = 10.0

Request, Response = conversation_pb2.ConverseRequest, conversation_pb2.ConverseResponse


class Manner(StrEnum):
    """How a caller speaks."""

    STEADY = "steady"
    TURNS = "turns"


@dataclass(slots=True)
class Told:
    """What callers sent and got; all of them may share one.

    Attributes:
        sent, received: frames of audio.
        late_s: of each frame of a reply: how much later than its tick it came; a reply's ticks begin with its first
            frame, and a frame that came before its tick is not late.
        own_late_s: how much later than its tick each frame was sent.
        turns: that ended well.
        errors: what went wrong.
    """

    sent: int = 0
    received: int = 0
    late_s: list[float] = field(default_factory=list)
    own_late_s: list[float] = field(default_factory=list)
    turns: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running `benchmarks.stub_server`."""

    pid: int
    address: str
    process: asyncio.subprocess.Process

    async def finish(self) -> dict[str, list[float]]:
        """End it and read what it measured."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        found: dict[str, list[float]] = json.loads(await self.process.stdout.read())
        await self.process.wait()
        return found


@asynccontextmanager
async def server_process(kind: str) -> AsyncIterator[ServerProcess]:
    """Run a server of a kind; it is ended with the block at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.stub_server", kind),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        port = json.loads(await process.stdout.readline())["port"]
        yield ServerProcess(process.pid, f"127.0.0.1:{port}", process)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Caller:
    """One conversation on a channel.

    Args:
        channel: to the server.
        manner: how it speaks.
        told: what is noted.
        first_frame: of its turns, at which it begins: callers do not all speak at once.
    """

    def __init__(self, channel: grpc.aio.Channel, manner: Manner, told: Told, *, first_frame: int = 0) -> None:
        self._first_frame = first_frame
        self._channel = channel
        self._manner = manner
        self._told = told
        self._session_id = ""
        self._begun_s: dict[int, float] = {}

    async def talk(self, *, seconds: float, delay_s: float = 0.0) -> None:
        """Hold the conversation for so long, from a moment on; an echo has no end of its own and is cut."""
        await asyncio.sleep(delay_s)
        call = conversation_pb2_grpc.ConversationServiceStub(self._channel).Converse()
        reading = asyncio.create_task(self._read(call))
        try:
            await call.write(start())
            if self._manner is Manner.STEADY:
                await call.write(Request(say=conversation_pb2.Say(request_id="long", text=LONG_TEXT)))
            await self._send(call, seconds)
            await call.write(Request(interrupt=conversation_pb2.Interrupt()))
            await call.write(Request(end_of_input=conversation_pb2.EndOfInput()))
            await call.done_writing()
            async with asyncio.timeout(END_TIMEOUT_S):
                await reading
            if self._session_id:
                request = session_pb2.DeleteSessionRequest(session_id=self._session_id)
                await session_pb2_grpc.SessionServiceStub(self._channel).DeleteSession(request, timeout=END_TIMEOUT_S)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            self._told.errors.append(repr(error))
        finally:
            reading.cancel()
            call.cancel()

    async def _send(self, call: Any, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        for place in range(round(seconds / FRAME_S)):
            due_s = begun_s + place * FRAME_S
            if (wait_s := due_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            self._told.own_late_s.append(max(0.0, clock() - due_s))
            is_noise = self._manner is Manner.TURNS and (self._first_frame + place) % TURN_FRAMES < NOISE_FRAMES
            await call.write(NOISE if is_noise else SILENCE)
            self._told.sent += 1

    async def _read(self, call: Any) -> None:
        clock = asyncio.get_running_loop().time
        while isinstance(response := await call.read(), Response):
            match response.WhichOneof("event"):
                case "reply_audio":
                    position_s = response.reply_audio.audio.first_sample / REPLY_RATE_HZ
                    begun_s = self._begun_s.setdefault(response.turn, clock() - position_s)
                    self._told.late_s.append(max(0.0, clock() - begun_s - position_s))
                    self._told.received += 1
                case "session_started":
                    self._session_id = response.session_started.session_id
                case "turn_ended" if response.turn_ended.HasField("error"):
                    self._told.errors.append(response.turn_ended.error.message)
                case "turn_ended":
                    self._told.turns += 1
                case "error":
                    self._told.errors.append(response.error.status.message)


def start() -> conversation_pb2.ConverseRequest:
    """A session in frames of 20 ms; nothing of it is kept."""
    pcm = audio_pb2.AUDIO_ENCODING_PCM16
    return Request(
        start=conversation_pb2.SessionStart(
            input_audio=audio_pb2.AudioFormat(encoding=pcm, sample_rate_hz=INPUT_RATE_HZ),
            reply_audio=audio_pb2.AudioFormat(encoding=pcm, sample_rate_hz=REPLY_RATE_HZ),
            reply_chunk_ms=FRAME_MS,
        )
    )


def frame(level: float) -> conversation_pb2.ConverseRequest:
    """20 ms of noise."""
    samples = np.random.default_rng(1).normal(0, level, INPUT_RATE_HZ * FRAME_MS // 1000)
    return Request(audio=audio_pb2.AudioChunk(data=(samples.clip(-1, 1) * 32767).astype("<i2").tobytes()))


SILENCE: Final = frame(0.0)
NOISE: Final = frame(0.2)


@asynccontextmanager
async def callers(server: ServerProcess, count: int, manner: Manner, *, seconds: float) -> AsyncGenerator[Told, None]:
    """So many conversations, each on a connection of its own, spread evenly over a frame; the block sees them run."""
    told = Told()
    channels = [grpc.aio.insecure_channel(server.address) for _ in range(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for place, channel in enumerate(channels):
                caller = Caller(channel, manner, told, first_frame=place * TURN_FRAMES // count)
                group.create_task(caller.talk(seconds=seconds, delay_s=place * FRAME_S / count))
            yield told
    finally:
        for channel in channels:
            await channel.close()
