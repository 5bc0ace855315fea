"""Whether the store serves this replica: asked every few seconds, and told when the answer changes.

    asked   ok ok ── ✗ ── ✗ ── ✗ ─────────── ok
    told    serving            away           serving

At the start one failure is enough, as nobody has been promised anything yet: a replica with a wrong password never
becomes ready, so a roll-out stops at it. Later `_FAILURES` in a row are, so that a fail-over of the store, which takes
about two seconds, moves no caller. What is under way goes on; only who looks for a replica is told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from services.shared.errors import StepAudioError

_LOG: Final = logging.getLogger(__name__)
_PERIOD_S: Final = 2.0
_FAILURES: Final = 3


class StoreWatch:
    """Watches one connection.

    Args:
        check: asks the store for an answer, within a bounded time; raises a StepAudioError if it gives none.
        told: told each change: whether the store serves.
        sleep: waits between two looks.

    Attributes:
        is_away: whether the store does not serve this replica, as far as is known.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        told: Callable[[bool], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.is_away = False
        self._check = check
        self._told = told
        self._sleep = sleep
        self._failures = 0

    async def begin(self) -> None:
        """Look for the first time, and tell what was found if it is away."""
        await self._look(_FAILURES)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._sleep(_PERIOD_S)
            await self._look(1)

    async def _look(self, weight: int) -> None:
        try:
            await self._check()
        except StepAudioError as error:
            self._failures += weight
            if self._failures >= _FAILURES and not self.is_away:
                self.is_away = True
                _LOG.error("the store does not serve this replica", extra={"reason": str(error)})
                await self._told(False)
            return
        self._failures = 0
        if self.is_away:
            self.is_away = False
            _LOG.info("the store serves this replica again")
            await self._told(True)
