"""A replica of fakes in virtual time, a client that writes down what it is told, and its wishes."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from services.orchestrator.conversation.events import Playback, TextTurn
from services.orchestrator.conversation.options import Options, VoiceOptions
from services.orchestrator.conversation.outputs import Output, ReplyAudio, ReplyText, TurnEnded
from services.orchestrator.pipeline.core import MakeCore, PureCore
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Observer, Unobserved
from services.orchestrator.pipeline.session import Emitted, Stream, StreamOpened
from services.orchestrator.pipeline.sessions import ResumeRequest, Sessions, StartRequest
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import FRAME_SAMPLES, TurnModel, VoiceActivityDetector
from services.orchestrator.ports.store import StreamFormats
from services.orchestrator.ports.tools import ToolRunner
from services.shared.errors import StepAudioError
from tests.fakes.hearing import LoudnessDetector
from tests.fakes.rooms import INSTANT, FakeRooms, Paces
from tests.fakes.store import FakeSessionStore

FORMATS = StreamFormats("pcm16", 16_000, "pcm16", 24_000)
OPTIONS = Options(voice=VoiceOptions(seed=7))
LIMITS = PipelineLimits()
WALL_S = 1_800_000_000.0

T = TypeVar("T")
_NUMBERS = itertools.count()


def loop_time() -> float:
    """The virtual clock."""
    return asyncio.get_running_loop().time()


def wall_time() -> float:
    """Wall time that passes with the virtual clock."""
    return WALL_S + loop_time()


@dataclass
class House:
    """One replica with its fakes."""

    sessions: Sessions
    rooms: FakeRooms
    store: FakeSessionStore
    detector: VoiceActivityDetector
    limits: PipelineLimits


@asynccontextmanager
async def house(
    paces: Paces = INSTANT,
    *,
    limits: PipelineLimits = LIMITS,
    store: FakeSessionStore | None = None,
    rooms: FakeRooms | None = None,
    owner: str = "replica-1",
    turn_model: TurnModel | None = None,
    observer: Observer | None = None,
    tools: ToolRunner | None = None,
    make_core: MakeCore = PureCore,
    detector: VoiceActivityDetector | None = None,
) -> AsyncIterator[House]:
    """A replica for the time of the block."""
    rooms = rooms or FakeRooms(paces, sleep=asyncio.sleep)
    store = store or FakeSessionStore(clock=wall_time)
    detector = detector or LoudnessDetector()
    shared = Surroundings(
        rooms=rooms.rooms,
        voices=VoiceBook(rooms.rooms.built_in, None),
        detector=detector,
        store=store,
        limits=limits,
        observer=observer or Unobserved(),
        clock=loop_time,
        wall_clock=wall_time,
        chance=random.Random(1),
        default_prompt="",
        turn_model=turn_model,
        tools=tools,
    )
    async with Sessions(shared, owner=owner, make_core=make_core) as sessions:
        yield House(sessions, rooms, store, detector, limits)


@dataclass
class Client:
    """Takes the events of one stream as they come, numbers them, and hangs up when it is told to."""

    house: House
    stream: Stream
    emitted: list[tuple[int, Emitted]] = field(default_factory=list)
    error: StepAudioError | None = None
    is_over: bool = False
    ended_turn: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @property
    def outputs(self) -> list[Output | StreamOpened]:
        """What came, in order."""
        return [emitted.output for _, emitted in self.emitted]

    @property
    def text(self) -> str:
        """All reply text."""
        return "".join(output.text for output in self.outputs if isinstance(output, ReplyText))

    @property
    def samples(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """All reply audio."""
        pieces = [np.asarray(output.samples) for output in self.outputs if isinstance(output, ReplyAudio)]
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    @property
    def token(self) -> str:
        """The stream's resume token."""
        opened = self.outputs[0]
        assert isinstance(opened, StreamOpened)
        return opened.resume_token

    def of(self, kind: type[T]) -> list[T]:
        """Outputs of one kind."""
        return [output for output in self.outputs if isinstance(output, kind)]

    def listen(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to read."""
        self._task = tasks.create_task(self._read())

    async def until(self, is_there: Callable[["Client"], bool]) -> None:
        """Wait for something to be told; fails if the stream ends before."""
        while not is_there(self):
            assert not self.is_over, f"the stream ended: {self.error!r}; {self.outputs}"
            self._news.clear()
            await self._news.wait()

    async def turns(self, count: int) -> None:
        """Wait for so many turns to end."""
        await self.until(lambda client: len(client.of(TurnEnded)) >= count)

    async def over(self) -> None:
        """Wait for the stream to end."""
        while not self.is_over:
            self._news.clear()
            await self._news.wait()

    def ask(self, text: str, request_id: str = "") -> None:
        """Write a turn."""
        self.stream.tell(TextTurn(loop_time(), request_id or f"request-{next(_NUMBERS)}", text))

    async def speak(self, seconds: float, level: float) -> None:
        """Speak (or be silent) in real time, in pieces of one frame."""
        for _ in range(round(seconds * 16_000 / FRAME_SAMPLES)):
            self.stream.hear(np.full(FRAME_SAMPLES, level, np.float32), self.stream.input_end_sample)
            await asyncio.sleep(FRAME_SAMPLES / 16_000)

    def hang_up(self) -> None:
        """Be gone."""
        if self._task is not None:
            self._task.cancel()
        self.house.sessions.detach(self.stream)

    async def _read(self) -> None:
        try:
            async for emitted in self.stream.events():
                self.emitted.append((self.stream.number(), emitted))
                self._news.set()
        except StepAudioError as error:
            self.error = error
        finally:
            self.is_over = True
            self._news.set()
            self.house.sessions.detach(self.stream)


async def start(place: House, tasks: asyncio.TaskGroup, *, options: Options = OPTIONS, greeting: str = "") -> Client:
    """A client with a new session."""
    stream = await place.sessions.start(StartRequest("tenant", FORMATS, options, greeting=greeting, retention_s=60))
    client = Client(place, stream)
    client.listen(tasks)
    await client.until(lambda it: bool(it.outputs))
    return client


async def resume(
    place: House, tasks: asyncio.TaskGroup, before: Client, *, playback: Playback | None = None, received: int = -1
) -> Client:
    """The client again, on a new stream."""
    received = received if received >= 0 else before.emitted[-1][0]
    ended = [
        emitted.turn
        for number, emitted in before.emitted
        if isinstance(emitted.output, TurnEnded) and number <= received
    ]
    ended_turn = max(ended, default=before.ended_turn)
    request = ResumeRequest("tenant", before.stream.session_id, before.token, received, playback, ended_turn)
    client = Client(place, await place.sessions.resume(request), ended_turn=ended_turn)
    client.listen(tasks)
    await client.until(lambda it: bool(it.outputs))
    return client


def with_reply(limits: PipelineLimits, **changes: float) -> PipelineLimits:
    """Limits with other ones for replies."""
    return replace(limits, reply=replace(limits.reply, **changes))  # type: ignore[arg-type]  # names are the caller's
