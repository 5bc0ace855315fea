"""F0 of recorded speech, frame by frame, for the F0 predictor to learn from.

Autocorrelation of Hann-windowed pieces divided by the window's own (Boersma, 1993); the best peak of each frame with a
small price for low octaves; single frames that stand alone are not voiced. Decides: what counts as voiced.
Refuses to know: mels and networks.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.shared.nn.features import PROMPT_MEL_HOP_SAMPLES, PROMPT_MEL_RATE_HZ

_LOW_HZ, _HIGH_HZ = 65.0, 420.0
_WINDOW_S: Final = 0.046
_VOICED_STRENGTH: Final = 0.45
_OCTAVE_PRICE: Final = 0.02
_SILENT_SHARE: Final = 0.02
_FLOOR: Final = 1e-9

Samples = NDArray[np.float32]


def pitch(samples: Samples) -> Samples:
    """F0 of each mel frame.

    Args:
        samples: [N] at 22.05 kHz, N a whole number of hops.

    Returns:
        [N / 256] Hz, 0 where unvoiced.
    """
    size = 2 * round(_WINDOW_S * PROMPT_MEL_RATE_HZ / 2)
    padded = np.pad(samples, (size // 2, size // 2)).astype(np.float64)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[
        PROMPT_MEL_HOP_SAMPLES // 2 :: PROMPT_MEL_HOP_SAMPLES
    ]
    pieces = pieces[: len(samples) // PROMPT_MEL_HOP_SAMPLES]
    window = np.hanning(size)
    own = _autocorrelation(window[None])[0]
    wave = _autocorrelation((pieces - pieces.mean(1, keepdims=True)) * window)
    strength = wave / (wave[:, :1] + _FLOOR) / (own / own[0])
    first, last = int(PROMPT_MEL_RATE_HZ / _HIGH_HZ), int(PROMPT_MEL_RATE_HZ / _LOW_HZ)
    lags = np.arange(first, last)
    inside = strength[:, first:last]
    peaks = (inside > strength[:, first - 1 : last - 1]) & (inside >= strength[:, first + 1 : last + 1])
    judged = np.where(peaks, inside, -1.0) - _OCTAVE_PRICE * np.log2(lags / first)
    best = judged.argmax(1)
    rows = np.arange(len(best))
    places = best + first
    left, centre, right = (strength[rows, places + shift] for shift in (-1, 0, 1))
    bend = left - 2 * centre + right
    shift = np.where(np.abs(bend) > _FLOOR, 0.5 * (left - right) / np.where(bend == 0, 1.0, bend), 0.0)
    found = PROMPT_MEL_RATE_HZ / (places + shift.clip(-0.5, 0.5))
    loud = np.abs(pieces).max(1) > _SILENT_SHARE * max(float(np.abs(samples).max(initial=0.0)), _FLOOR)
    voiced = (judged[rows, best] > -0.5) & (centre > _VOICED_STRENGTH) & loud
    return np.where(_joined(voiced), found, 0.0).astype(np.float32)


def _autocorrelation(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """[B, N] -> [B, N] of each row, by the Fourier transform."""
    size = 1 << (2 * rows.shape[1] - 1).bit_length()
    power = np.abs(np.fft.rfft(rows, size)) ** 2
    return np.asarray(np.fft.irfft(power, size)[:, : rows.shape[1]])


def _joined(voiced: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Single frames that differ from both neighbours become like them."""
    before, after = np.roll(voiced, 1), np.roll(voiced, -1)
    alone = (before == after) & (before != voiced)
    alone[:1], alone[-1:] = False, False
    return np.asarray(voiced ^ alone)
