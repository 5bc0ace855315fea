"""Writing a session's turns to the store, in order and for as long as it takes.

    the core  ─ CommitTurn ─> waiting writes ──> store ──> TurnCommitted ──> turn_ended to the client
                                  ^────── again, later, while the store is away

A turn is acknowledged only when the store has it. A write that a newer one makes worthless is left out. The session
ends where the store says that it belongs to somebody else, and where too many writes wait.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from services.orchestrator.conversation.options import Options
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.ports.store import KeptTurn, Lease, OpenTurn, Progress, SessionStore
from services.shared.errors import RoomUnavailableError, StepAudioError

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    key: str
    run: Callable[[Lease], Awaitable[None]]
    done: Callable[[], None] | None = None


class Keeping:
    """The writes of one session.

    Args:
        store: where they go.
        lease: the right to make them; a resume brings a newer one.
        limits: how many wait, and how long for one answer.
        chance: draws how far apart tries are.
        lost: told once what makes further writes useless.
    """

    def __init__(
        self,
        store: SessionStore,
        lease: Lease,
        limits: PipelineLimits,
        *,
        chance: random.Random,
        lost: Callable[[StepAudioError], None],
    ) -> None:
        self.lease = lease
        self._store = store
        self._limits = limits
        self._chance = chance
        self._lost = lost
        self._writes: deque[_Write] = deque()
        self._has_writes = asyncio.Event()
        self._is_flushed = asyncio.Event()
        self._is_flushed.set()
        self._is_useless = False

    def commit(self, turn: KeptTurn, done: Callable[[], None]) -> None:
        """Keep a turn for good, then call `done`."""
        self._add(_Write(f"turn {turn.number}", lambda lease: self._store.commit_turn(lease, turn), done))

    def save_open_turn(self, turn: OpenTurn, done: Callable[[], None] | None = None) -> None:
        """Keep what is known of the turn under way, then call `done`: this, or a newer state of it, is kept."""
        self._add(_Write(f"open {turn.number}", lambda lease: self._store.save_open_turn(lease, turn), done))

    def save_options(self, options: Options) -> None:
        """Keep the options now in force."""
        self._add(_Write("options", lambda lease: self._store.save_options(lease, options)))

    def save_progress(self, progress: Progress) -> None:
        """Keep how far the session has come before the next renewal of its lease does."""
        self._add(_Write("progress", lambda lease: self._store.renew(lease, progress)))

    def confirm_token(self, digest: str) -> None:
        """The client has the newest resume token."""
        self._add(_Write("token", lambda lease: self._store.confirm_token(lease, digest)))

    async def flushed(self) -> None:
        """Wait until nothing waits to be written, or until the session is lost: then nothing more ever is."""
        await self._is_flushed.wait()

    async def run(self) -> None:
        """Write until cancelled, or until the session is lost."""
        wait_s = 0.0
        while True:
            await self._has_writes.wait()
            write = self._writes[0]
            try:
                async with asyncio.timeout(self._limits.store_s):
                    await write.run(self.lease)
            except (RoomUnavailableError, TimeoutError) as error:
                wait_s = min(max(2 * wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
                _log.warning("the store did not take a write; it is tried again", exc_info=error)
                await asyncio.sleep(wait_s * self._chance.uniform(0.5, 1.0))
            except StepAudioError as error:
                self._is_useless = True
                self._is_flushed.set()
                self._lost(error)
                return
            else:
                wait_s = 0.0
                self._done(write)

    def _add(self, write: _Write) -> None:
        newest = [waiting for waiting in self._writes if waiting.key == write.key]
        for waiting in newest:
            if waiting is not self._writes[0]:  # the first one may be on its way
                self._writes.remove(waiting)
                write = replace(write, done=_both(waiting.done, write.done))
        self._writes.append(write)
        self._has_writes.set()
        if not self._is_useless:
            self._is_flushed.clear()
        if len(self._writes) > self._limits.uncommitted_writes:
            self._lost(RoomUnavailableError("the store of sessions has been away for too long"))

    def _done(self, write: _Write) -> None:
        self._writes.popleft()
        if not self._writes:
            self._has_writes.clear()
            self._is_flushed.set()
        if write.done is not None:
            write.done()


def _both(first: Callable[[], None] | None, second: Callable[[], None] | None) -> Callable[[], None] | None:
    """Call one after the other; a write that a newer one makes worthless is done when the newer one is."""
    if first is None or second is None:
        return first or second

    def both() -> None:
        first()
        second()

    return both
