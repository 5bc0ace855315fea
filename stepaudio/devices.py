"""Microphone and loudspeaker of this machine, by PortAudio through sounddevice, which is imported when used.

This is all that the package knows of real devices: two functions that open one, with a callback each on PortAudio's
own thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stepaudio.errors import DeviceError
from stepaudio.formats import Samples

Block: TypeAlias = NDArray[np.float32]


class Device(Protocol):
    """An open device."""

    def close(self) -> None:
        """Stop it; no callback runs afterwards."""


OpenInput: TypeAlias = Callable[[int, int, Callable[[Samples], None]], Device]
OpenOutput: TypeAlias = Callable[[int, Callable[[Block], None]], Device]


def open_input(sample_rate_hz: int, block_samples: int, hear: Callable[[Samples], None]) -> Device:
    """Open the default microphone.

    Args:
        sample_rate_hz: of the samples.
        block_samples: N.
        hear: called with each [N] samples.

    Raises:
        DeviceError: there is none, or it cannot be opened.
    """
    sounddevice = _sounddevice()

    def callback(block: Block, *_: object) -> None:
        hear(block[:, 0].copy())

    return _opened(
        sounddevice.InputStream, sounddevice, sample_rate_hz, callback, what="microphone", blocksize=block_samples
    )


def open_output(sample_rate_hz: int, fill: Callable[[Block], None]) -> Device:
    """Open the default loudspeaker.

    Args:
        sample_rate_hz: of the samples.
        fill: called with each [N] block to be filled.

    Raises:
        DeviceError: there is none, or it cannot be opened.
    """
    sounddevice = _sounddevice()

    def callback(block: Block, *_: object) -> None:
        fill(block[:, 0])

    return _opened(sounddevice.OutputStream, sounddevice, sample_rate_hz, callback, what="loudspeaker")


class Loudspeaker:
    """A player on a loudspeaker; a context manager.

    Args:
        sample_rate_hz: of the samples.
        open_device: opens the device; the default one of the machine by default.

    Raises:
        DeviceError: on entering, where there is no loudspeaker.
    """

    def __init__(self, sample_rate_hz: int, *, open_device: OpenOutput = open_output) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._open_device = open_device
        self._lock = threading.Lock()
        self._waiting: deque[Samples] = deque()
        self._pending_samples = 0

    def __enter__(self) -> Self:
        self._device = self._open_device(self._sample_rate_hz, self._fill)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._device.close()

    @property
    def sample_rate_hz(self) -> int:
        """Rate of all samples."""
        return self._sample_rate_hz

    def write(self, samples: Samples) -> None:
        """Play [N] samples after those that wait."""
        with self._lock:
            self._waiting.append(samples)
            self._pending_samples += len(samples)

    def clear(self) -> None:
        """Fall silent now and forget what waits."""
        with self._lock:
            self._waiting.clear()
            self._pending_samples = 0

    def pending_samples(self) -> int:
        """Samples that the device has not taken yet."""
        return self._pending_samples

    def _fill(self, block: Block) -> None:
        """Fill a [N] block with what waits, and silence after it; runs on the device's thread."""
        filled = 0
        with self._lock:
            while self._waiting and filled < len(block):
                first = self._waiting.popleft()
                part = first[: len(block) - filled]
                block[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(first):
                    self._waiting.appendleft(first[len(part) :])
            self._pending_samples -= filled
        block[filled:] = 0.0


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there and PortAudio's library is not
        raise DeviceError(
            f"no audio devices can be used here: sounddevice and PortAudio are needed ({error})"
        ) from error
    module: ModuleType = sounddevice
    return module


def _opened(
    kind: Any,  # Any: sounddevice has no types
    sounddevice: ModuleType,
    sample_rate_hz: int,
    callback: Callable[..., None],
    *,
    what: str,
    blocksize: int = 0,
) -> Device:
    try:
        stream = kind(samplerate=sample_rate_hz, channels=1, dtype="float32", callback=callback, blocksize=blocksize)
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DeviceError(f"the {what} cannot be opened ({error})") from error
    device: Device = stream
    return device
