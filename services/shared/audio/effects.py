"""Speed that keeps the pitch, and volume that never wraps.

Speed is WSOLA (waveform similarity overlap-add): the output is laid together from windows of the input at another
spacing, each moved by a few milliseconds to where it continues the one before it best:

    input      [==0==]                        speed 1.5: windows lie 1.5 hops apart, give or take the search
                    [==1==]
                          [==2==]
    output     [==0==]                        and one hop apart here
                  [==1==]
                     [==2==]

A whole signal and a stream in any pieces give the same samples. Volume above 1 goes through a
soft limiter, so that a loud passage is rounded off instead of clipped.

Source: Verhelst and Roelands, 1993.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from services.shared.audio.pcm import Samples, as_mono
from services.shared.errors import InvalidOptionError

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
    changer = SpeedChanger(sample_rate_hz, ratio)
    signal = as_mono(samples)
    return signal.copy() if ratio == 1.0 else changer.push(signal, final=True)


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
    scaled = as_mono(samples) * np.float32(ratio)
    if ratio <= 1.0:
        return np.clip(scaled, -1.0, 1.0)
    over = np.abs(scaled) - _KNEE
    rounded = _KNEE + (1.0 - _KNEE) * np.tanh(np.maximum(over, 0.0) / (1.0 - _KNEE))
    return np.where(over > 0, np.copysign(rounded, scaled), scaled).astype(np.float32)


class SpeedChanger:
    """`change_speed` of one stream, as its samples come; it holds back about three windows, 60 ms.

    Args:
        sample_rate_hz: of the samples.
        ratio: 0.25 .. 4.

    Raises:
        InvalidOptionError: the ratio is outside its range.
    """

    def __init__(self, sample_rate_hz: int, ratio: float) -> None:
        if not MIN_SPEED <= ratio <= MAX_SPEED:
            raise InvalidOptionError(f"the speed ratio must be within {MIN_SPEED}..{MAX_SPEED}, not {ratio}")
        self._ratio = ratio
        self._hop = round(_WINDOW_S * sample_rate_hz / 2)
        self._search = round(_SEARCH_S * sample_rate_hz)
        self._window = np.hanning(2 * self._hop + 1)[:-1].astype(np.float32)  # adds up to 1 at half overlap
        # Indices of the input below count from `margin` zeros that stand before it.
        self._margin = 2 * self._hop + self._search
        self._kept = np.zeros(self._margin, np.float32)
        self._kept_from = 0
        self._came = 0
        self._given = 0
        self._index = 0
        self._centre = self._margin
        self._overlap = np.zeros(self._hop, np.float32)

    def push(self, samples: Samples, *, final: bool) -> Samples:
        """Take more of the stream and give what no later sample changes.

        Args:
            samples: [N] within -1..1, perhaps none.
            final: nothing follows: the rest comes out, round(total / ratio) samples in all.

        Returns:
            [M] float32.
        """
        self._came += len(samples)
        self._kept = np.concatenate([self._kept, samples])
        blocks = [np.zeros(0, np.float32)]
        if not final:
            while self._needed() <= self._kept_from + len(self._kept):
                blocks.append(self._next_block())
            self._forget()
            out = np.concatenate(blocks)
            self._given += len(out)
            return out
        length = round(self._came / self._ratio)
        for _ in range(self._index, -(-length // self._hop) + 1):
            missing = self._needed() - self._kept_from - len(self._kept)
            self._kept = np.pad(self._kept, (0, max(missing, 0)))
            blocks.append(self._next_block())
        return np.concatenate(blocks)[: length - self._given]

    def _ideal(self) -> int:
        return self._margin + round(self._index * self._hop * self._ratio)

    def _needed(self) -> int:
        """Index after the last input sample that the next window may touch."""
        return max(self._ideal() + self._search + self._hop, self._centre + 2 * self._hop)

    def _next_block(self) -> Samples:
        """Lay the next window down; what it leaves complete is a hop of output, none before the first sample."""
        if self._index:
            begin = self._centre - self._kept_from
            wanted = self._kept[begin : begin + 2 * self._hop]  # what follows the last window in the input
            ideal = self._ideal() - self._kept_from
            self._centre = _best_centre(self._kept, wanted, ideal, self._search) + self._kept_from
        begin = self._centre - self._hop - self._kept_from
        laid = self._kept[begin : begin + 2 * self._hop] * self._window
        block = self._overlap + laid[: self._hop]
        self._overlap = laid[self._hop :]
        self._index += 1
        return block if self._index > 1 else block[:0]

    def _forget(self) -> None:
        """Drop the input that no later window touches."""
        begin = max(min(self._centre, self._ideal() - self._search - self._hop), self._kept_from)
        self._kept = self._kept[begin - self._kept_from :]
        self._kept_from = begin


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
