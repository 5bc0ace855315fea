"""Where the user's speech comes from: a recording, silence after it, or a microphone.

A source is an async iterator of [N] float32 samples; `Conversation.send_audio` takes each. Real devices are behind
`stepaudio.devices`, so that everything here runs without one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample
from stepaudio.devices import OpenInput, open_input
from stepaudio.formats import CHUNK_MS, Samples

_MICROPHONE_CAPACITY_S: Final = 5


def read_speech(path: Path, sample_rate_hz: int) -> Samples:
    """Read a recording as [N] samples of a rate.

    Raises:
        AudioError: no audio, or a damaged file.
    """
    audio = read_audio(path)
    return resample(audio.samples, audio.sample_rate_hz, sample_rate_hz)


async def paced(
    samples: Samples,
    sample_rate_hz: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Samples, None]:
    """Give samples in pieces of 40 ms, each when it would have been spoken."""
    piece_samples = sample_rate_hz * CHUNK_MS // 1000
    began_s = clock()
    for begin in range(0, len(samples), piece_samples):
        piece = samples[begin : begin + piece_samples]
        await sleep(max(0.0, began_s + (begin + len(piece)) / sample_rate_hz - clock()))
        yield piece


class Microphone:
    """What a microphone hears; a context manager and an async iterator that ends when it is left.

    At most 5 s wait to be taken; beyond that the oldest are lost, since the newest matter in a conversation.

    Args:
        sample_rate_hz: of the samples.
        open_device: opens the device; the default one of the machine by default.

    Raises:
        DeviceError: on entering, where there is no microphone.
    """

    def __init__(self, sample_rate_hz: int, *, open_device: OpenInput = open_input) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._open_device = open_device
        self._heard: deque[Samples] = deque(maxlen=_MICROPHONE_CAPACITY_S * 1000 // CHUNK_MS)
        self._news = asyncio.Event()
        self._is_open = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def hear(samples: Samples) -> None:  # on the device's own thread
            loop.call_soon_threadsafe(self._hear, samples)

        self._device = self._open_device(self._sample_rate_hz, self._sample_rate_hz * CHUNK_MS // 1000, hear)
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._device.close()
        self.stop()

    def stop(self) -> None:
        """End the iteration once what was heard is taken."""
        self._is_open = False
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Samples:
        """The next 40 ms."""
        while not self._heard:
            if not self._is_open:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._heard.popleft()

    def _hear(self, samples: Samples) -> None:
        self._heard.append(samples)
        self._news.set()


def silence(duration_s: float, sample_rate_hz: int) -> Samples:
    """[N] zeros."""
    return np.zeros(round(duration_s * sample_rate_hz), np.float32)
