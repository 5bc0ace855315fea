"""Several plain replicas over one Redis, and callers who keep what they heard: for fail-over and roll-outs.

A caller's player is a clock: what it has not played yet can be taken back, what it has played was heard. Each text is
answered with itself, and one seed makes one voice, so that what a caller has heard can be held to what one hears whom
nothing happened to: not a sample may be missing, not one may come twice.
"""

import asyncio
import json
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, options_pb2, session_pb2
from services.local.redis import RedisServer, free_port
from services.local.settings import ROOT
from stepaudio import Conversation, Retry
from stepaudio.formats import Samples
from tests.fakes.rooms import OUTPUT_RATE_HZ

PATIENT: Final = Retry(max_attempts=60, first_delay_s=0.05, max_delay_s=1.0)
SPEED: Final = 2.0
"""How much faster than a loudspeaker the callers' players play; the rooms are six times as fast."""
_READY_S: Final = 60.0


@dataclass(slots=True)
class ReplicaProcess:
    """One process of `benchmarks.stub_replica`; `owner` is its name in the store."""

    owner: str
    port: int
    process: asyncio.subprocess.Process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; gives its exit code."""
        return await self.process.wait()


@dataclass(slots=True)
class Fleet:
    """Replicas that may come and go, at ports that are known before.

    Attributes:
        redis: the store.
        ports: where replicas may be.
        running: by port.
        drain_s: how long a replica that drains waits for its callers.
        begun: how many were started.
    """

    redis: RedisServer
    ports: list[int]
    drain_s: float = 20.0
    running: dict[int, ReplicaProcess] = field(default_factory=dict)
    begun: int = 0

    @property
    def address(self) -> str:
        """Of all of them, for the client."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    async def start(self, port: int, version: str = "a") -> ReplicaProcess:
        """Start a replica, and wait until it serves."""
        self.begun += 1
        owner = f"{version}{self.begun}"
        arguments = ("-m", "benchmarks.stub_replica", owner, str(port), str(self.redis.port), str(self.drain_s))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe, cwd=ROOT)
        replica = self.running[port] = ReplicaProcess(owner, port, process)
        assert process.stdout is not None
        async with asyncio.timeout(_READY_S):
            json.loads(await process.stdout.readline())
        return replica

    def owned_by(self, owner: str) -> ReplicaProcess:
        """The replica of this name. Raises StopIteration if it does not run."""
        return next(replica for replica in self.running.values() if replica.owner == owner)


@asynccontextmanager
async def fleet(folder: Path, count: int, *, drain_s: float = 20.0) -> AsyncIterator[Fleet]:
    """A store and so many ports; whatever runs in the end is killed."""
    made = Fleet(RedisServer(folder), [free_port() for _ in range(count)], drain_s)
    try:
        await made.redis.await_ready(timeout_s=_READY_S)
        yield made
    finally:
        for replica in made.running.values():
            if replica.process.returncode is None:
                replica.signal(signal.SIGKILL)
                await replica.ended()
        made.redis.stop()


class HeardPlayer:
    """Plays by the clock, and keeps what was heard.

    Attributes:
        heard: pieces, in order.
    """

    sample_rate_hz = OUTPUT_RATE_HZ

    def __init__(self) -> None:
        self.heard: list[Samples] = []
        self._waiting: deque[Samples] = deque()
        self._since_s = 0.0

    def write(self, samples: Samples) -> None:
        """Play after what waits."""
        self._advance()
        self._waiting.append(samples)

    def clear(self) -> None:
        """Fall silent."""
        self._advance()
        self._waiting.clear()

    def pending_samples(self) -> int:
        """What was not heard yet."""
        self._advance()
        return sum(map(len, self._waiting))

    @property
    def samples(self) -> Samples:
        """All that was heard."""
        self._advance()
        return np.concatenate([np.zeros(0, np.float32), *self.heard])

    def _advance(self) -> None:
        now_s = time.monotonic()
        if not self._waiting:
            self._since_s = now_s
            return
        due = round((now_s - self._since_s) * SPEED * OUTPUT_RATE_HZ)
        self._since_s = now_s
        while due > 0 and self._waiting:
            piece = self._waiting.popleft()
            self.heard.append(piece[:due])
            if len(piece) > due:
                self._waiting.appendleft(piece[due:])
            due -= len(piece)


def start(seed: int) -> conversation_pb2.SessionStart:
    """A session that speaks with one voice at the rate of the rooms, and can be read for an hour."""
    pcm16 = audio_pb2.AUDIO_ENCODING_PCM16
    return conversation_pb2.SessionStart(
        input_audio=audio_pb2.AudioFormat(encoding=pcm16, sample_rate_hz=16_000),
        reply_audio=audio_pb2.AudioFormat(encoding=pcm16, sample_rate_hz=OUTPUT_RATE_HZ),
        options=options_pb2.SessionOptions(voice=options_pb2.VoiceOptions(seed=seed)),
        retention_s=3600,
    )


@dataclass(slots=True)
class Talk:
    """One conversation of written turns.

    Attributes:
        ended: turns as the caller was told of them, in order.
        streams: how many there were.
        resumed: first samples of replies that went on.
        session_id: once it has begun.
    """

    conversation: Conversation
    player: HeardPlayer
    ended: list[session_pb2.Turn] = field(default_factory=list)
    streams: int = 0
    resumed: list[int] = field(default_factory=list)

    @property
    def session_id(self) -> str:
        """Of the session."""
        return self.conversation.session.session_id

    async def ask(self, text: str) -> None:
        """Write a turn."""
        await self.conversation.send_text(text)

    async def until(self, kind: str) -> conversation_pb2.ConverseResponse:
        """Follow the events up to one of this kind. Raises RuntimeError if the conversation ends before."""
        async for event in self.conversation:
            self._note(event)
            if event.HasField(kind):  # type: ignore[arg-type]  # a name of the message
                return event
        raise RuntimeError(f"the conversation ended without {kind}")

    async def finish(self) -> None:
        """Say nothing more, and follow the events to the end, over whatever streams it takes."""
        await self.conversation.end_input()
        async for event in self.conversation:
            self._note(event)

    def _note(self, event: conversation_pb2.ConverseResponse) -> None:
        self.streams += event.HasField("session_started")
        if event.HasField("reply_resumed"):
            self.resumed.append(event.reply_resumed.first_sample)
        if event.HasField("turn_ended"):
            self.ended.append(event.turn_ended.record)


@asynccontextmanager
async def talk(address: str, *, seed: int = 1) -> AsyncIterator[Talk]:
    """A conversation with whoever serves."""
    player = HeardPlayer()
    async with Conversation(address, start(seed), player=player, retry=PATIENT) as conversation:
        yield Talk(conversation, player)


async def undisturbed(address: str, texts: Sequence[str]) -> Samples:
    """What one hears of these turns whom nothing happens to."""
    async with talk(address) as caller:
        for text in texts:
            await caller.ask(text)
            await caller.until("turn_ended")
        await caller.finish()
        return caller.player.samples
