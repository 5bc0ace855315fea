"""What all fake rooms have: how long they take, what goes wrong with a call, what has begun and not ended."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.orchestrator.ports.rooms import Work
from services.shared.errors import StepAudioError

Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a room takes: before the first output of a call, and before each of the others."""

    first_s: float = 0.0
    each_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Paces:
    """The pace of every room.

    Attributes:
        hear: one push of an utterance.
        tokens: the end of an utterance.
        reply: pieces of text.
        transcribe: a whole transcript.
        speech: groups of speech tokens.
        wave: one push of a stream that gives samples.
        voice: one clip.
    """

    hear: Pace = Pace()
    tokens: Pace = Pace()
    reply: Pace = Pace()
    transcribe: Pace = Pace()
    speech: Pace = Pace()
    wave: Pace = Pace()
    voice: Pace = Pace()


INSTANT: Final = Paces()
PACED: Final = Paces(
    hear=Pace(0.001),
    tokens=Pace(0.02),
    reply=Pace(0.03, 0.015),
    transcribe=Pace(0.1),
    speech=Pace(0.03, 0.02),
    wave=Pace(0.03, 0.03),
    voice=Pace(0.2),
)
"""Delays as small models on an idle machine have them; speech is made about five times faster than it is spoken."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        error: what it raises; None: it waits for ever.
        after: outputs that come before.
    """

    error: StepAudioError | None
    after: int = 0


class FakeRoom:
    """What all fake rooms have.

    Attributes:
        faults: of the next calls, in turn; a call without one goes well.
        works: whose work the calls were, in order.
        live: calls and utterances that have begun and not ended.
        begun: all that ever began.
    """

    def __init__(self, sleep: Sleep | None) -> None:
        self.faults: deque[Fault | None] = deque()
        self.works: list[Work] = []
        self.live = 0
        self.begun = 0
        self._sleep = sleep

    def next_fault(self) -> Fault | None:
        """The fault of the call that begins."""
        return self.faults.popleft() if self.faults else None

    def enter(self, work: Work) -> None:
        """Something begins."""
        self.works.append(work)
        self.live += 1
        self.begun += 1

    def leave(self) -> None:
        """It has ended."""
        self.live -= 1

    async def take(self, seconds: float) -> None:
        """Let the room work for a while; others have their turn in any case."""
        await (self._sleep(seconds) if self._sleep and seconds > 0 else asyncio.sleep(0))

    async def output(self, place: int, pace: Pace, fault: Fault | None) -> None:
        """Wait for the output of this place, or meet the fault."""
        await self.take(pace.each_s if place else pace.first_s)
        if fault is not None and place >= fault.after:
            await meet(fault)

    @contextmanager
    def one_call(self, work: Work) -> Iterator[None]:
        """Count a call while it runs."""
        self.enter(work)
        try:
            yield
        finally:
            self.leave()


async def meet(fault: Fault) -> None:
    """Raise the fault's error, or wait for ever."""
    if fault.error is not None:
        raise fault.error
    await asyncio.Event().wait()
