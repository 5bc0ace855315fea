"""Conversations in virtual time: the real controller and pipeline, real voice activity, rooms that only take time.

    caller, samples ─> Sessions ─> Silero, the turn model (real; the virtual clock stands still meanwhile)
                                └> rooms that answer after as long as the large models take

A second of conversation costs what its networks cost, and a machine that is busy changes nothing. What a room takes is
spread by a tenth from call to call, by a seed.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np

from benchmarks.turns.clips import RATE_HZ
from benchmarks.turns.corpus import Caller, Said
from services.orchestrator.conversation.events import Acknowledged, Playback
from services.orchestrator.conversation.options import Options, VoiceOptions
from services.orchestrator.conversation.outputs import ReplyAudio, ReplyStarted, TurnEnded
from services.orchestrator.conversation.record import SpeculationWork
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.session import Emitted, Stream
from services.orchestrator.pipeline.sessions import Sessions, StartRequest
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import TurnModel, VoiceActivity, VoiceActivityDetector
from services.orchestrator.ports.store import StreamFormats
from services.shared.audio.pcm import Samples
from tests.fakes.clock import run
from tests.fakes.rooms import FakeRooms, Pace, Paces
from tests.fakes.store import FakeSessionStore

LARGE: Final = Paces(
    hear=Pace(0.01),
    tokens=Pace(0.05),
    reply=Pace(0.15, 0.03),
    transcribe=Pace(0.3),
    speech=Pace(0.06, 0.02),
    wave=Pace(0.2, 0.2),
    voice=Pace(0.0),
)
"""Of the 130B model at 33 tokens a second (four H800), the 3B one at 250, and a vocoder whose first chunk takes what is
published for the flow of this size on one L20 (196 ms)."""

ANSWER: Final = "The meeting begins at three today. Please bring the papers that I sent you, and tell the others."
PACE_SPREAD: Final = 0.1
PIECE_SAMPLES: Final = RATE_HZ // 50
BREATH_S: Final = 0.6
"""Between the end of a reply and the next utterance."""
WAIT_S: Final = 15.0
FORMATS: Final = StreamFormats("pcm16", RATE_HZ, "pcm16", 24_000)

T = TypeVar("T")


class Elsewhere:
    """Runs coroutines on a loop of its own, in a thread, while the caller's loop stands still."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class StandingDetector:
    """A real detector, for which virtual time stands still."""

    def __init__(self, detector: VoiceActivityDetector, elsewhere: Elsewhere) -> None:
        self._detector = detector
        self._elsewhere = elsewhere

    def open(self) -> VoiceActivity:
        """See the port."""
        return _StandingActivity(self._detector.open(), self._elsewhere)


class _StandingActivity:
    def __init__(self, activity: VoiceActivity, elsewhere: Elsewhere) -> None:
        self._activity = activity
        self._elsewhere = elsewhere

    async def judge(self, samples: Samples) -> tuple[float, ...]:
        async def judged() -> tuple[float, ...]:
            return await self._activity.judge(samples)

        return self._elsewhere.wait(judged())

    def close(self) -> None:
        self._activity.close()


class StandingTurnModel:
    """A real turn model that takes as long as it is said to."""

    def __init__(self, model: TurnModel, elsewhere: Elsewhere, *, takes_s: float) -> None:
        self._model = model
        self._elsewhere = elsewhere
        self._takes_s = takes_s

    async def judge(self, samples: Samples) -> float:
        """See the port."""
        probability = self._elsewhere.wait(self._model.judge(samples))
        await asyncio.sleep(self._takes_s)
        return probability


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one utterance.

    Attributes:
        name: of the utterance.
        wait_s: from its end to the first audio of the answer.
        turns: how many it became.
        is_cut_off: a reply was begun before its end.
        work: what speculation did in all of them.
        is_committed: the answer had been prepared.
        saved_ms: by that, as the server counts it.
        tokens: that the models made for the replies that were told of.
    """

    name: str
    wait_s: float
    turns: int
    is_cut_off: bool
    work: SpeculationWork
    is_committed: bool
    saved_ms: int
    tokens: int


@dataclass(slots=True)
class _Ear:
    """What a caller has been told, with when."""

    stream: Stream
    started_s: list[float] = field(default_factory=list)
    first_audio_s: list[float] = field(default_factory=list)
    ended: list[TurnEnded] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _is_first: bool = False

    async def listen(self) -> None:
        """Hear every reply at once, until the stream ends."""
        async for emitted in self.stream.events():
            self.stream.number()
            self._take(emitted)
            self.news.set()

    def _take(self, emitted: Emitted) -> None:
        now_s = asyncio.get_running_loop().time()
        match emitted.output:
            case ReplyStarted():
                self.started_s.append(now_s)
                self._is_first = True
            case ReplyAudio() as audio:
                if self._is_first:
                    self.first_audio_s.append(now_s)
                    self._is_first = False
                self.stream.tell(Acknowledged(now_s, Playback(emitted.turn, audio.end_sample)))
            case TurnEnded() as ended:
                self.ended.append(ended)


def converse(
    caller: Caller, options: Options, detector: VoiceActivityDetector, model: TurnModel | None, *, seed: int
) -> list[Heard]:
    """One conversation: every utterance is spoken, and its answer heard.

    Args:
        caller: who speaks.
        options: of the session.
        detector: real, standing.
        model: the same; None for none.
        seed: of the rooms' paces.
    """
    return run(_converse(caller, options, detector, model, seed))


async def _converse(
    caller: Caller, options: Options, detector: VoiceActivityDetector, model: TurnModel | None, seed: int
) -> list[Heard]:
    options = replace(options, voice=VoiceOptions(seed=seed))
    async with _sessions(detector, model, seed) as sessions, asyncio.TaskGroup() as tasks:
        stream = await sessions.start(StartRequest("tenant", FORMATS, options, retention_s=60))
        ear = _Ear(stream)
        listening = tasks.create_task(ear.listen())
        heard = [await _say(ear, said) for said in caller.utterances]
        listening.cancel()
        sessions.detach(stream)
    return heard


async def _say(ear: _Ear, said: Said) -> Heard:
    """Say it, and be silent until all that was said is answered."""
    loop = asyncio.get_running_loop()
    before = len(ear.started_s), len(ear.first_audio_s), len(ear.ended)
    await _send(ear.stream, np.zeros(round(BREATH_S * RATE_HZ), np.float32))
    await _send(ear.stream, said.samples)
    end_s = loop.time()
    async with asyncio.timeout(WAIT_S):
        while not _is_answered(ear, before, end_s):
            await _send(ear.stream, np.zeros(PIECE_SAMPLES, np.float32))
    started = ear.started_s[before[0] :]
    ended = ear.ended[before[2] :]
    works = [turn.record.metrics.speculation for turn in ended]
    return Heard(
        said.name,
        ear.first_audio_s[-1] - end_s,
        len(started),
        any(moment_s < end_s for moment_s in started),
        SpeculationWork(*(sum(getattr(work, name) for work in works) for name in SpeculationWork.__slots__)),
        works[-1].committed > 0,
        works[-1].saved_ms,
        sum(turn.record.metrics.work.text_tokens + turn.record.metrics.work.speech_tokens for turn in ended),
    )


def _is_answered(ear: _Ear, before: tuple[int, int, int], end_s: float) -> bool:
    """Every turn has ended, and something was answered after the end of what was said, or cut it off."""
    started, ended = len(ear.started_s) - before[0], len(ear.ended) - before[2]
    now_s = asyncio.get_running_loop().time()
    is_quiet = not ear.ended or now_s - end_s > 3.0
    return started > 0 and started == ended and (ear.started_s[-1] >= end_s or is_quiet)


async def _send(stream: Stream, samples: Samples) -> None:
    """In real time, 20 ms a piece."""
    for start in range(0, len(samples), PIECE_SAMPLES):
        piece = samples[start : start + PIECE_SAMPLES]
        stream.hear(piece, stream.input_end_sample)
        await asyncio.sleep(len(piece) / RATE_HZ)


@asynccontextmanager
async def _sessions(detector: VoiceActivityDetector, model: TurnModel | None, seed: int) -> AsyncIterator[Sessions]:
    loop, chance = asyncio.get_running_loop(), random.Random(seed)

    async def take(seconds: float) -> None:
        await asyncio.sleep(seconds * chance.lognormvariate(0.0, PACE_SPREAD))

    rooms = FakeRooms(LARGE, sleep=take)
    rooms.chat.answers.extend([ANSWER] * 1000)
    shared = Surroundings(
        rooms=rooms.rooms,
        voices=VoiceBook(rooms.rooms.built_in, None),
        detector=detector,
        store=FakeSessionStore(clock=loop.time),
        limits=PipelineLimits(),
        observer=Unobserved(),
        clock=loop.time,
        wall_clock=loop.time,
        chance=random.Random(seed),
        default_prompt="",
        turn_model=model,
    )
    async with Sessions(shared, owner="replica") as sessions:
        yield sessions
