"""What the client's tests share: no wait is real unless it has to be, and no task outlives a conversation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepaudio.retry import Retry

Result = TypeVar("Result")


class Waits:
    """Records the waits asked for, and lets them pass at once."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    async def sleep(self, duration_s: float) -> None:
        self.asked_s.append(duration_s)
        await asyncio.sleep(0)

    def retry(self, **fields: Any) -> Retry:
        return Retry(uniform=lambda low, high: low, sleep=self.sleep, **fields)


class SlowPlayer:
    """Plays only when told to."""

    def __init__(self, sample_rate_hz: int = 24000) -> None:
        self._sample_rate_hz = sample_rate_hz
        self.written = np.zeros(0, np.float32)
        self.pending = 0
        self.cleared = 0

    @property
    def sample_rate_hz(self) -> int:
        return self._sample_rate_hz

    def write(self, samples: NDArray[np.float32]) -> None:
        self.written = np.concatenate([self.written, samples])
        self.pending += len(samples)

    def clear(self) -> None:
        self.cleared += 1
        self.pending = 0

    def pending_samples(self) -> int:
        return self.pending

    def play(self, samples: int) -> None:
        self.pending -= samples


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end within 20 s, and hold that no task is left."""

    async def whole() -> Result:
        async with asyncio.timeout(20):
            result = await main
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own and "stepaudio" in repr(task.get_coro())]
        assert not left
        return result

    return asyncio.run(whole())
