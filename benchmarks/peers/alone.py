"""The driver without a framework: what it costs is taken off everyone's figure."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.scene import REPLY_FRAME_BYTES, Journal, Talker


class Mirror:
    """Gives a frame for a frame."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def push(self, frame: bytes) -> None:
        """See the protocol."""
        self._journal.heard(REPLY_FRAME_BYTES)

    async def words_known(self) -> None:
        """See the protocol."""

    async def say(self, text: str) -> None:
        """See the protocol."""


@asynccontextmanager
async def conversations(journals: Sequence[Journal], *, deaf: bool) -> AsyncIterator[Sequence[Talker]]:
    """One for each journal."""
    yield [Mirror(journal) for journal in journals]
