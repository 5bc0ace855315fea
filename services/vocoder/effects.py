"""Speed that keeps the pitch, and volume that never wraps.

Speed is WSOLA (waveform similarity overlap-add): the output is laid together from windows of the input at another
spacing, each moved by a few milliseconds to where it continues the one before it best. Volume above 1 goes through a
soft limiter, so that a loud passage is rounded off instead of clipped.

Source: Verhelst and Roelands, 1993.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.shared.audio.pcm import as_mono
from services.shared.errors import InvalidOptionError
from services.vocoder.voice import ArrayLike

Samples = NDArray[np.float32]

MIN_SPEED, MAX_SPEED = 0.25, 4.0
_WINDOW_S = 0.030
_SEARCH_S = 0.010
_KNEE = 0.9


def change_speed(samples: ArrayLike, sample_rate_hz: int, ratio: float) -> Samples:
    """Play faster (ratio above 1) or slower without changing the pitch.

    Args:
        samples: [N] within -1..1.
        sample_rate_hz: their rate.
        ratio: 0.25 .. 4.

    Returns:
        [round(N / ratio)] float32.

    Raises:
        InvalidOptionError: the ratio is outside its range.
        AudioError: the samples cannot be used.
    """
    if not MIN_SPEED <= ratio <= MAX_SPEED:
        raise InvalidOptionError(f"the speed ratio must be within {MIN_SPEED}..{MAX_SPEED}, not {ratio}")
    signal = as_mono(np.asarray(samples))
    if ratio == 1.0:
        return signal.copy()
    hop = round(_WINDOW_S * sample_rate_hz / 2)
    return _overlap_similar(signal, hop, round(_SEARCH_S * sample_rate_hz), ratio)


def change_volume(samples: ArrayLike, ratio: float) -> Samples:
    """Scale by a ratio; above 0.9 of full scale an amplified signal is rounded off and never passes full scale.

    Args:
        samples: [N] within -1..1.
        ratio: at least 0; up to 1 the result is a plain product.

    Raises:
        InvalidOptionError: the ratio is negative or not finite.
        AudioError: the samples cannot be used.
    """
    if not (math.isfinite(ratio) and ratio >= 0):
        raise InvalidOptionError(f"the volume ratio must be finite and not negative, not {ratio}")
    scaled = as_mono(np.asarray(samples)) * np.float32(ratio)
    if ratio <= 1.0:
        return np.clip(scaled, -1.0, 1.0)
    over = np.abs(scaled) - _KNEE
    rounded = _KNEE + (1.0 - _KNEE) * np.tanh(np.maximum(over, 0.0) / (1.0 - _KNEE))
    return np.where(over > 0, np.copysign(rounded, scaled), scaled).astype(np.float32)


def _overlap_similar(signal: Samples, hop: int, search: int, ratio: float) -> Samples:
    """Windows of 2 hop, centred every hop in the output and every hop * ratio, moved by the search, in the input."""
    length = round(len(signal) / ratio)
    count = -(-length // hop) + 1
    margin = 2 * hop + search
    reach = round((count - 1) * hop * ratio) + 2 * margin + hop
    padded = np.zeros(max(reach, len(signal) + margin) + margin, np.float32)
    padded[margin : margin + len(signal)] = signal
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)  # adds up to 1 at half overlap
    out = np.zeros((count + 1) * hop, np.float32)
    centre = margin
    for index in range(count):
        if index:
            wanted = padded[centre : centre + 2 * hop]  # what follows the last window in the input
            centre = _best_centre(padded, wanted, margin + round(index * hop * ratio), search)
        out[index * hop : (index + 2) * hop] += padded[centre - hop : centre + hop] * window
    return out[hop : hop + length]


def _best_centre(padded: Samples, wanted: Samples, ideal: int, search: int) -> int:
    """The centre within `search` of `ideal` whose window resembles `wanted` most (normalised correlation)."""
    half = len(wanted) // 2
    first = ideal - search - half
    span = padded[first : first + 2 * search + len(wanted)]
    likeness = np.correlate(span, wanted, mode="valid")  # [2 search + 1]
    running = np.concatenate([[0.0], np.cumsum(span.astype(np.float64) ** 2)])
    energy = running[len(wanted) :] - running[: -len(wanted)]
    score = likeness / np.sqrt(np.maximum(energy, 1e-9))
    best = int(np.argmax(score))
    if score[best] <= 0:
        return ideal
    return ideal - search + best
