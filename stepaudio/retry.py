"""When a failed call is tried again: the server's delay, doubled with each attempt and spread at random.

    attempt   1 ──✗── delay ──► 2 ──✗── 2 × delay ──► 3 ──✗── raised        each delay × 1.0 to 1.5

Tries again only what an `ApiError` calls retryable. Source: docs/api.md, "Errors".
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stepaudio.errors import ApiError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Retry:
    """How patiently a call is tried again.

    Attributes:
        max_attempts: attempts in all, at least 1.
        first_delay_s: wait before the second attempt where the server names none, as a lost connection does not.
        max_delay_s: longest wait, before it is spread.
        uniform: draws a number between two bounds.
        sleep: waits.
    """

    max_attempts: int = 4
    first_delay_s: float = 0.1
    max_delay_s: float = 5.0
    uniform: Callable[[float, float], float] = random.uniform
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def delay_s(self, error: ApiError, attempt: int) -> float:
        """The wait after the failure of an attempt, counted from 1: never shorter than the server asks for."""
        asked_s = self.first_delay_s if error.retry_delay_s is None else error.retry_delay_s
        doubled_s = min(asked_s * 2.0 ** min(attempt - 1, 16), max(self.max_delay_s, asked_s))
        return doubled_s * self.uniform(1.0, 1.5)

    async def wait(self, error: ApiError, attempt: int) -> None:
        """Wait before the next attempt.

        Raises:
            ApiError: the given one, if it is not retryable or this was the last attempt.
        """
        if not error.retryable or attempt >= self.max_attempts:
            raise error
        await self.sleep(self.delay_s(error, attempt))

    async def run(self, call: Callable[[int], Awaitable[Result]]) -> Result:
        """Call until it succeeds.

        Args:
            call: makes one attempt, given its number from 1.

        Raises:
            ApiError: of the last attempt.
        """
        attempt = 1
        while True:
            try:
                return await call(attempt)
            except ApiError as error:
                await self.wait(error, attempt)
            attempt += 1
