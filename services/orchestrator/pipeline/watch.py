"""A limit on each of many short waits of one task.

`asyncio.timeout` sets a timer of the loop and takes it back at every use, which is felt where a session waits dozens of
times a second. A watch leaves its timer where it is, and looks when it fires whether the wait of that moment has taken
too long:

    waits     ├─┤ ├──┤ ├─┤     ├───────── limit ────────┤ TimeoutError
    timer     └─────────────────┴ not due: set anew ────┘ due

It interrupts a wait as `asyncio.timeout` does, and leaves a task that is cancelled for another reason cancelled.
"""

import asyncio
from types import TracebackType
from typing import Self


class Watch:
    """Use it as `with watch: await ...`, for one wait at a time of one task; `close` it with its owner.

    Args:
        limit_s: longest wait; one that takes longer ends with TimeoutError.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Task[object] | None = None
        self._due_s = 0.0
        self._cancelled_before = 0
        self._is_late = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._waiter = asyncio.current_task()
        assert self._waiter is not None
        self._cancelled_before = self._waiter.cancelling()
        self._due_s = loop.time() + self._limit_s
        if self._timer is None:
            self._timer = loop.call_at(self._due_s, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        waiter, self._waiter = self._waiter, None
        if not self._is_late or waiter is None:
            return
        self._is_late = False
        if waiter.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Take the timer back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_s:
            self._timer = loop.call_at(self._due_s, self._look)
        else:
            self._is_late = True
            self._waiter.cancel()
