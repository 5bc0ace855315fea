"""A thread with an event loop to itself: vLLM's engine must live on one loop from its start to its end.

Triton starts a model before its event loop exists, and runs `execute` on a loop of its own; the engine is started,
warmed up and used from different loops, and belongs to none of them.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """An event loop that runs on a thread of its own until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Run a coroutine there; cancelling the future cancels it. A closed thread raises RuntimeError."""
        if self._loop.is_closed():
            job.close()
            raise RuntimeError("the loop is closed")
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    def close(self) -> None:
        """Cancel what still runs there, see it end, and stop; closing twice is closing once."""
        if self._loop.is_closed():
            return
        self.submit(self._cancel_all()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
