"""Whisper's log-mel spectrogram in numpy, of 80 bands: what the turn model reads.

    samples  |--------------------------------|          at 16 kHz, of mean 0 and variance 1
    frames  ▒▒▒▒▒                                        400 samples each, one every 160, the ends mirrored
              ▒▒▒▒▒ …
    bands    80 triangles of equal area up to 8 kHz, on Slaney's scale; log10, floored 8 decades below the loudest

The orchestrator has no torch, so the one of services/shared/nn cannot be used here; a test holds both together.
Source: openai-whisper's log_mel_spectrogram; librosa's slaney filters.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples

HOP_SAMPLES: Final = 160
BANDS: Final = 80
_RATE_HZ: Final = 16_000
_WINDOW_SAMPLES: Final = 400
_CORNER_HZ: Final = 1000.0
_BANDS_BELOW: Final = 15.0
"""Slaney's scale is linear up to the corner, with so many mels, and then logarithmic."""
_MELS_PER_E: Final = 27.0 / math.log(6.4)
_FLOOR: Final = 1e-10
_DECADES: Final = 8.0


def log_mel(samples: Samples) -> NDArray[np.float32]:
    """The spectrogram of one piece.

    Args:
        samples: [N] at 16 kHz, more than 200.

    Returns:
        [80, N // 160], about -1..1.
    """
    mirrored = np.pad(samples, _WINDOW_SAMPLES // 2, mode="reflect")
    frames = sliding_window_view(mirrored, _WINDOW_SAMPLES)[::HOP_SAMPLES][: len(samples) // HOP_SAMPLES]  # [T, 400]
    power = np.abs(np.fft.rfft(frames * _window(), axis=1)) ** 2  # [T, 201]
    decades = np.log10(np.maximum(_filters() @ power.T, _FLOOR))  # [80, T]
    floored = np.maximum(decades, decades.max() - _DECADES)
    scaled: NDArray[np.float32] = ((floored + 4.0) / 4.0).astype(np.float32)
    return scaled


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float64]:
    """[400] Hann, periodic."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW_SAMPLES) / _WINDOW_SAMPLES)
    return window


@lru_cache(maxsize=1)
def _filters() -> NDArray[np.float64]:
    """[80, 201] triangles; each rises from the centre of the one before and falls to the centre of the next."""
    top = _BANDS_BELOW + _MELS_PER_E * math.log(_RATE_HZ / 2 / _CORNER_HZ)
    mels = np.linspace(0.0, top, BANDS + 2)
    above = _CORNER_HZ * np.exp((mels - _BANDS_BELOW) / _MELS_PER_E)
    edges_hz = np.where(mels < _BANDS_BELOW, mels * _CORNER_HZ / _BANDS_BELOW, above)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    bins_hz = np.linspace(0.0, _RATE_HZ / 2, _WINDOW_SAMPLES // 2 + 1)
    rising, falling = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))
    return filters
