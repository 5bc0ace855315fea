"""Virtual time for asyncio: the loop's clock jumps to the next moment that anything waits for.

run(main())       runs a coroutine to its end; an hour of sleeping takes no time, and every run is the same
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_REAL_PATIENCE_S: Final = 5.0
"""How long a thread may take to wake a loop that waits for nothing else."""


class StuckError(Exception):
    """Every task waits for something that nothing will bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait: it moves the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_REAL_PATIENCE_S)
            if not ready:
                raise StuckError("nothing can happen any more")
            return ready
        ready = super().select(0)
        if not ready:
            self.now_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time only moves when everything waits."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
