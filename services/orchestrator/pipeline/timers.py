"""Moments that are waited for, by name, in one task.

Putting a moment off costs nothing: the task wakes at the old one, finds nothing due, and waits on.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Timers(Generic[Name]):
    """Named moments, each set to one at most.

    Args:
        clock: monotonic seconds, the event loop's.
        reached: told the name of each moment that has come; it may set others.
    """

    def __init__(self, clock: Callable[[], float], reached: Callable[[Name], None]) -> None:
        self._clock = clock
        self._reached = reached
        self._moments: dict[Name, float] = {}
        self._earlier = asyncio.Event()
        self._wakes_at_s = float("inf")

    def set(self, name: Name, at_s: float | None) -> None:
        """Set or move a moment; None takes it back."""
        if at_s is None:
            self._moments.pop(name, None)
            return
        self._moments[name] = at_s
        if at_s < self._wakes_at_s:
            self._earlier.set()

    async def run(self) -> None:
        """Wait for moments until cancelled."""
        while True:
            await self._wait()
            now_s = self._clock()
            due = sorted(self._moments.items(), key=lambda moment: moment[1])
            for name, _ in due:
                if self._moments.get(name, float("inf")) <= now_s:  # one that came before may have moved it
                    del self._moments[name]
                    self._reached(name)

    async def _wait(self) -> None:
        self._earlier.clear()
        self._wakes_at_s = min(self._moments.values(), default=float("inf"))
        wait_s = self._wakes_at_s - self._clock()
        try:
            async with asyncio.timeout(None if wait_s == float("inf") else max(wait_s, 0.0)):
                await self._earlier.wait()
        except TimeoutError:
            pass
