"""How a session ends on this replica: decided once, and told to the store.

    close, drain, a lost lease, a fault ──> decide ──> the session's work stops ──> tell_store

The first word counts; only a fault of the shell itself is heard after it. The store finds out by itself what it is not
told, when the lease runs out.
"""

import asyncio
import logging
from dataclasses import replace

from services.orchestrator.pipeline.identity import Fate
from services.orchestrator.ports.store import Lease, Progress, SessionStore
from services.shared.errors import StepAudioError

_log = logging.getLogger(__name__)


class Ending:
    """The end of one session, before and after it has come.

    Attributes:
        fate: what becomes of the session.
        error: with which its stream ends; None is OK.
    """

    def __init__(self) -> None:
        self.fate = Fate.RELEASED
        self.error: StepAudioError | None = None
        self._has_come = asyncio.Event()

    @property
    def has_come(self) -> bool:
        """Whether it is decided."""
        return self._has_come.is_set()

    async def wait(self) -> None:
        """Until it is decided."""
        await self._has_come.wait()

    def decide(self, fate: Fate, error: StepAudioError | None) -> None:
        """End in this way, if it has not ended."""
        if not self._has_come.is_set():
            self.fate, self.error = fate, error
            self._has_come.set()

    def fault(self, cause: BaseException) -> None:
        """End by a fault of the shell itself; whatever was decided before, this is what the stream ends with."""
        _log.error("a session ends by a fault of the server's", exc_info=cause)
        error = StepAudioError("a fault of the server's; the session can be resumed")
        error.__cause__ = cause
        self.fate, self.error = Fate.RELEASED, error
        self._has_come.set()

    async def tell_store(self, store: SessionStore, lease: Lease, progress: Progress, *, within_s: float) -> None:
        """Tell the store what becomes of the session."""
        try:
            async with asyncio.timeout(within_s):
                match self.fate:
                    case Fate.OVER:
                        await store.end(lease)
                    case Fate.DROPPED:
                        await store.delete(lease.tenant, lease.session_id)
                    case Fate.RELEASED:
                        await store.renew(lease, replace(progress, attached=False))
                    case Fate.LOST:
                        pass
        except (StepAudioError, TimeoutError) as error:
            _log.warning("the store was not told of a session's end", exc_info=error)
