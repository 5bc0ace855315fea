"""Timed speech, and settling its times on the sound itself.

Decides: where silence begins and ends around the phones, once a source's own times are roughly known.
Refuses to know: which source they come from, and texts.

    source's times   |  _   | n |  aɪ  |  s  | . |  _  |
    sound                 ~~~~~~~~~~~~~~~~~
    settled          | _  | n |  aɪ  | s    | .  |  _  |      silence ends at the first sound and starts at the last
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.phones import SILENCE, labels_of

_HOP_S: Final = 0.005
_QUIET_BELOW_PEAK_DB: Final = 45.0
_SHORTEST_PAUSE_S: Final = 0.04
_SHORTEST_SYMBOL_S: Final = 0.01
_REACH_BACK_S: Final = 0.2
_REACH_AHEAD_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class TimedSpeech:
    """An utterance and its symbols: symbol i ends at sample `ends_samples[i]`, the first starts at 0."""

    samples: NDArray[np.float32]
    sample_rate_hz: int
    symbols: tuple[str, ...]
    ends_samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Pause:
    """Symbols first .. stop - 1 are silent, from start to end (samples)."""

    first: int
    stop: int
    start: int
    end: int


def settle(speech: TimedSpeech, *, lag_samples: int) -> TimedSpeech:
    """Take a constant lag off the times, then move the edges of each silence to where the sound stops and starts.

    Symbols between two silences keep their order and at least 10 ms each, as far as the sound is that long.

    Args:
        speech: with the source's times; symbols that are silence by `labels_of` mark the pauses.
        lag_samples: how much later than the sound the source's times are.
    """
    total, count = speech.samples.size, len(speech.symbols)
    ends = [max(end - lag_samples, 0) for end in speech.ends_samples[:-1]] + [total]
    shortest = round(_SHORTEST_SYMBOL_S * speech.sample_rate_hz)
    settled = list(ends)
    next_symbol, next_start = 0, 0
    for pause in (*_pauses(speech, ends), _Pause(count, count, total, total)):
        start = max(pause.start, next_start)
        _fit(settled, next_symbol, pause.first, (next_start, start), shortest)
        next_symbol, next_start = pause.stop, max(pause.end, start)
        settled[pause.first : pause.stop] = [next_start] * (pause.stop - pause.first)
    return replace(speech, ends_samples=tuple(settled))


def _pauses(speech: TimedSpeech, ends: Sequence[int]) -> list[_Pause]:
    """The silent groups of symbols, each moved onto the longest quiet stretch near it, if there is one."""
    rate, total = speech.sample_rate_hz, speech.samples.size
    stretches = _quiet_stretches(speech.samples, round(_HOP_S * rate))
    silent = np.array([labels_of(symbol) == (SILENCE,) for symbol in speech.symbols])
    pauses: list[_Pause] = []
    free_from = 0
    for first, stop in _runs(silent):
        opens, closes = first == 0, stop == silent.size
        start, end = 0 if opens else ends[first - 1], ends[stop - 1]
        low, high = max(start - round(_REACH_BACK_S * rate), free_from), end + round(_REACH_AHEAD_S * rate)
        near = [(max(a, free_from), b) for a, b in stretches if a < high and b > low]
        fitting = [(a, b) for a, b in near if (a == 0 or not opens) and (b == total or not closes)]
        longest = max(fitting, key=lambda stretch: stretch[1] - stretch[0], default=(0, 0))
        if longest[1] - longest[0] >= _SHORTEST_PAUSE_S * rate:
            start, end = longest
        pauses.append(_Pause(first, stop, start, total if closes else end))
        free_from = max(end, free_from)
    return pauses


def _fit(ends: list[int], first: int, stop: int, room: tuple[int, int], shortest: int) -> None:
    """Keep the ends of symbols first .. stop - 1 inside their room, in order, and none shorter than can be."""
    count = stop - first
    if count <= 0:
        return
    low, high = room
    step = min(shortest, (high - low) // count)
    for number in range(count):
        earliest = low + (number + 1) * step
        latest = high - (count - 1 - number) * step
        previous = ends[first + number - 1] + step if number else earliest
        ends[first + number] = min(max(ends[first + number], earliest, previous), latest)
    ends[stop - 1] = high


def _quiet_stretches(samples: NDArray[np.float32], hop: int) -> list[tuple[int, int]]:
    """Where the sound is much quieter than its loudest hop, as spans in samples."""
    padded = np.pad(samples, (0, -samples.size % hop)).reshape(-1, hop)
    level_db = 10.0 * np.log10(np.mean(padded.astype(np.float64) ** 2, axis=1) + 1e-12)
    quiet = level_db < level_db.max() - _QUIET_BELOW_PEAK_DB
    return [(first * hop, min(stop * hop, samples.size)) for first, stop in _runs(quiet)]


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and stop of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]
