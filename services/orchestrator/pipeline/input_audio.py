"""The user's newest audio at 16 kHz, addressed by its position in the session.

dropped   |  kept: what may still be asked for         |  to come
----------+--------------------------------------------+-----------
      first_sample                                 end_sample
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

INPUT_RATE_HZ = 16_000
SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


class InputAudio:
    """A buffer that grows at its end and is cut at its start; adding a piece copies nothing.

    Args:
        first_sample: position of the first sample that will come.
    """

    def __init__(self, first_sample: int = 0) -> None:
        self.first_sample = first_sample
        self.end_sample = first_sample
        self._pieces: deque[NDArray[np.float32]] = deque()

    def append(self, samples: NDArray[np.float32]) -> None:
        """Add the next samples; the buffer keeps this array."""
        if len(samples):
            self._pieces.append(samples)
            self.end_sample += len(samples)

    def forget(self, before_sample: int) -> None:
        """Let go of whole pieces before a position."""
        while self._pieces and self.first_sample + len(self._pieces[0]) <= before_sample:
            self.first_sample += len(self._pieces.popleft())

    def read(self, start: int, end: int) -> NDArray[np.float32]:
        """Give the samples from `start` to before `end`; what was forgotten is silence."""
        parts: list[NDArray[np.float32]] = []
        position = self.end_sample
        for piece in reversed(self._pieces):  # what is read is new, as a rule
            if position <= start:
                break
            position -= len(piece)
            parts.append(piece[max(start - position, 0) : max(end - position, 0)])
        if start < self.first_sample:
            parts.append(np.zeros(min(self.first_sample, end) - start, np.float32))
        return np.concatenate(parts[::-1]) if parts else np.zeros(0, np.float32)
