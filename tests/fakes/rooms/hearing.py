"""The fake tokenizer room: a group of tokens for each 120 ms of an utterance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.orchestrator.ports.rooms import Work
from tests.fakes.rooms.made_up import tokens_of
from tests.fakes.rooms.room import INSTANT, FakeRoom, Paces, Sleep


class FakeUtterance:
    """An utterance of `FakeTokenizer`: audio that failed to arrive is kept, and is there at the next call."""

    def __init__(self, room: "FakeTokenizer", work: Work) -> None:
        self._room = room
        self._work = work
        self._pieces: list[NDArray[np.float32]] = []
        self._is_open = False

    async def push(self, samples: ArrayLike) -> None:
        """See the port."""
        self._begin()
        self._pieces.append(np.array(samples, np.float32))
        await self._room.output(0, self._room.paces.hear, self._room.next_fault())

    async def peek(self) -> tuple[int, ...]:
        """See the port."""
        self._begin()
        await self._room.output(0, self._room.paces.tokens, self._room.next_fault())
        return self._tokens()

    async def finish(self) -> tuple[int, ...]:
        """See the port."""
        self._begin()
        await self._room.output(0, self._room.paces.tokens, self._room.next_fault())
        self._end()
        return self._tokens()

    async def abandon(self) -> None:
        """See the port."""
        self._end()

    def _tokens(self) -> tuple[int, ...]:
        return tokens_of(np.concatenate([np.zeros(0, np.float32), *self._pieces]))

    def _begin(self) -> None:
        if not self._is_open:
            self._room.enter(self._work)
            self._is_open = True

    def _end(self) -> None:
        if self._is_open:
            self._room.leave()
            self._is_open = False


class FakeTokenizer(FakeRoom):
    """One group for each 120 ms, made of what these samples are. Each push, peek and finish is a call of `faults`."""

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None) -> None:
        super().__init__(sleep)
        self.paces = paces

    def listen(self, work: Work) -> FakeUtterance:
        """See the port; `live` counts it from its first call."""
        return FakeUtterance(self, work)
