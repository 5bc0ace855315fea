"""The door between the speech model and the vocoder: speech tokens clause by clause, which can be taken back unheard.

Speech goes wrong now and then, and is made again with another seed, as long as none of it was voiced. So a clause is
given out when all of it is there, or when the listener would run dry otherwise:

    audio ahead of the listener   ███████████ above `hold_ms`        ███ below
    clause n + 1, being spoken    ▒▒▒▒▒▒▒▒▒…  waits to be complete    ▒▒▒▒▒▒│ given out as it comes

The first clause finds nothing ahead and so begins with its first chunk. The longer the vocoder works, the more speech
has gathered when it comes back: chunks grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.orchestrator.pipeline.limits import ReplyLimits
from services.shared.codec import GROUP_MS, GROUP_TOKENS

_LOOK_AGAIN_S = 0.02
"""Shortest wait for audio to be played."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause of a reply.

    Attributes:
        text: as the speech model reads it, style tags in front.
        start_character, end_character: where it stands in the text that the client sees.
        estimate_s: how long it may take to speak.
    """

    text: str
    start_character: int
    end_character: int
    estimate_s: float


@dataclass(slots=True)
class _Speech:
    clause: Clause
    groups: deque[tuple[int, ...]] = field(default_factory=deque)
    taken_tokens: int = 0
    waiting_tokens: int = 0
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """Speech to be voiced at once.

    Attributes:
        tokens: codec values, perhaps none with `is_last`.
        is_last: the clause ends with it.
        is_complete: nothing of the clause is still to be spoken.
        clause_s: length of the clause, as far as it is spoken.
    """

    tokens: tuple[int, ...]
    is_last: bool
    is_complete: bool
    clause_s: float


class SpeechDoor:
    """One speaker, one vocoder, clauses in order.

    Args:
        limits: capacity, chunks, and when a clause is held.
        ahead_ms: audio that is made and not yet heard.
        first_chunk_ms: speech that a chunk has at least; None is what the limits say.
    """

    def __init__(
        self, limits: ReplyLimits, ahead_ms: Callable[[], float], first_chunk_ms: Callable[[], int] | None = None
    ) -> None:
        self._limits = limits
        self._ahead_ms = ahead_ms
        self._first_chunk_ms = first_chunk_ms or (lambda: limits.first_chunk_ms)
        self._speeches: deque[_Speech] = deque()
        self._open: _Speech | None = None
        self._held_ms = 0.0
        self._closed = False
        self._has_room = asyncio.Event()
        self._has_news = asyncio.Event()

    @property
    def held_ms(self) -> float:
        """Speech inside."""
        return self._held_ms

    # The speaker's side.

    def begin(self, clause: Clause) -> None:
        """The next clause is going to be spoken."""
        self._open = _Speech(clause)
        self._speeches.append(self._open)
        self._has_news.set()

    async def put(self, groups: tuple[int, ...]) -> None:
        """Add the next groups of the clause as soon as they fit."""
        assert self._open is not None
        length_ms = _length_ms(groups)
        while self._held_ms + length_ms > self._limits.speech_ms:
            self._has_room.clear()
            await self._has_room.wait()
        self._open.groups.append(groups)
        self._open.waiting_tokens += len(groups)
        self._held_ms += length_ms
        self._has_news.set()

    def complete(self) -> float:
        """The clause has been spoken to its end, or ends here. Returns its length in seconds."""
        assert self._open is not None
        self._open.is_complete = True
        self._has_news.set()
        return _clause_s(self._open)

    def take_back(self) -> float:
        """Drop what is still here of the clause; returns how much of it is gone already, in seconds."""
        assert self._open is not None
        self._held_ms -= sum(map(_length_ms, self._open.groups))
        self._open.groups.clear()
        self._open.waiting_tokens = 0
        self._has_room.set()
        return _clause_s(self._open)

    def close(self) -> None:
        """No more clauses come."""
        self._closed = True
        self._has_news.set()

    # The vocoder's side.

    async def next_clause(self) -> Clause | None:
        """Wait for the next clause, None after the last; the one before was taken to its last chunk."""
        while not self._speeches:
            if self._closed:
                return None
            await self._news(None)
        return self._speeches[0].clause

    async def take(self) -> SpeechChunk:
        """Wait for the next speech of the clause that is to be voiced now."""
        speech = self._speeches[0]
        while (wait_s := self._wait_s(speech)) != 0.0:
            await self._news(wait_s)
        tokens: list[int] = []
        while speech.groups and _length_ms(tokens) + _length_ms(speech.groups[0]) <= self._limits.max_chunk_ms:
            tokens.extend(speech.groups.popleft())
        if not tokens and speech.groups:
            tokens.extend(speech.groups.popleft())  # one answer of the speech model is longer than a chunk
        speech.waiting_tokens -= len(tokens)
        speech.taken_tokens += len(tokens)
        self._held_ms = max(self._held_ms - _length_ms(tokens), 0.0)
        self._has_room.set()
        is_last = speech.is_complete and not speech.groups
        if is_last:
            self._speeches.popleft()
        return SpeechChunk(tuple(tokens), is_last, speech.is_complete, _clause_s(speech))

    def _wait_s(self, speech: _Speech) -> float | None:
        """How long nothing may be taken: 0 for not at all, None until something is put."""
        if speech.is_complete:
            return 0.0
        if speech.waiting_tokens * GROUP_MS < self._first_chunk_ms() * GROUP_TOKENS:
            return None
        over_ms = self._ahead_ms() - self._limits.hold_ms
        is_full = self._held_ms + self._limits.first_chunk_ms > self._limits.speech_ms
        return 0.0 if over_ms <= 0 or is_full else max(over_ms / 1000, _LOOK_AGAIN_S)

    async def _news(self, wait_s: float | None) -> None:
        self._has_news.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._has_news.wait()
        except TimeoutError:
            pass


def _length_ms(tokens: Sequence[int]) -> float:
    return len(tokens) / GROUP_TOKENS * GROUP_MS


def _clause_s(speech: _Speech) -> float:
    return (speech.taken_tokens + speech.waiting_tokens) / GROUP_TOKENS * GROUP_MS / 1000
