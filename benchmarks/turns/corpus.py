"""Callers who pause in mid-sentence, made of recordings: pauses of known lengths are put in where the voice is low.

    recording   ▒▒▒▒▒▒▒▂▒▒▒▒▒▒▒▒▒▒▂▒▒▒▒▒▒▒▒
    utterance   ▒▒▒▒▒▒▒~~~~~▒▒▒▒▒▒▒▒▒▒~~~~~~~~~▒▒▒▒▒▒▒▒      2 or 3 pauses, filled with the recording's own noise
                       pause          pause            end

Pauses of a caller are log-normal, as those within a speaker's turn are, around a median of the caller's own: a hasty
caller's is 300 ms, a slow one's 600 ms. A recording's own pauses stay, its silence before and behind does not. What is
drawn follows from the seed alone.

Callers are split in two halves by speaker: knobs are chosen by one half, and figures are told of the other.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.turns.clips import RATE_HZ, Clip, clip_paths, read_clip
from services.shared.audio.pcm import Samples

MEDIANS_MS: Final = {"hasty": 300.0, "slow": 600.0}
SPREAD: Final = 0.45
"""Of the logarithm: nine pauses in ten are below 1.8 times the median."""
SHORTEST_MS, LONGEST_MS = 120.0, 1800.0
PAUSES: Final = (2, 3)
UTTERANCES: Final = 10
_STEP: Final = RATE_HZ // 100
_APART_S: Final = 0.5
"""Between two pauses, and between a pause and the ends."""
_LOW: Final = 0.1
"""Of the loud parts' level: below it the voice is low enough to pause."""
_FADE: Final = RATE_HZ // 200


class Half(StrEnum):
    """Which callers."""

    TUNING = "tuning"
    HELD_OUT = "held-out"


SPEAKERS: Final = {
    Half.TUNING: ("English", "Spanish", "French 2", "Italian 2"),
    Half.HELD_OUT: ("French", "Italian", "Russian", "Colombian"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One utterance.

    Attributes:
        name: of the recording.
        samples: float32 at 16 kHz, from the first sound to the last.
        pauses: first and last sample of each pause that was put in.
    """

    name: str
    samples: Samples
    pauses: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """One caller: who speaks, how, and what."""

    speaker: str
    manner: str
    utterances: tuple[Said, ...]


def callers(folder: Path, half: Half, *, utterances: int = UTTERANCES, seed: int = 5) -> list[Caller]:
    """The callers of one half: each speaker as a hasty and as a slow one, with recordings of their own.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    made = []
    for speaker in SPEAKERS[half]:
        chance = random.Random(f"{seed} {speaker}")
        paths = clip_paths(folder, speaker)
        chance.shuffle(paths)
        spoken = _utterances(paths, chance)
        for manner, median_ms in MEDIANS_MS.items():
            said = tuple(_paused(*next(spoken), median_ms, chance) for _ in range(utterances))
            made.append(Caller(speaker, manner, said))
    return made


def _utterances(paths: list[Path], chance: random.Random) -> Iterator[tuple[Clip, list[int]]]:
    """Recordings in which one may pause often enough, with where."""
    for path in paths:
        clip = read_clip(path)
        if clip is None:
            continue
        trimmed = _trimmed(clip)
        places = _places(trimmed.samples)
        wanted = chance.choice(PAUSES)
        if len(places) >= wanted:
            yield trimmed, sorted(chance.sample(places, wanted))


def _levels(samples: Samples) -> Samples:
    """Root mean square of each 10 ms."""
    steps = len(samples) // _STEP
    levels: Samples = np.sqrt(np.mean(samples[: steps * _STEP].reshape(steps, _STEP) ** 2, axis=1))
    return levels


def _trimmed(clip: Clip) -> Clip:
    levels = _levels(clip.samples)
    loud = np.nonzero(levels > _LOW * np.percentile(levels, 95))[0]
    return Clip(clip.name, clip.samples[loud[0] * _STEP : (loud[-1] + 1) * _STEP])


def _places(samples: Samples) -> list[int]:
    """Samples in the middle of low stretches, the lowest first chosen, with room between them."""
    levels = _levels(samples)
    around = np.convolve(levels, np.ones(3) / 3, mode="same")  # 30 ms: between words rather than within one
    low = [int(step) for step in np.argsort(around) if around[step] < _LOW * np.percentile(levels, 95)]
    apart = round(_APART_S * RATE_HZ / _STEP)
    chosen: list[int] = []
    for step in low:
        if min(step, len(levels) - step) > apart and all(abs(step - other) > apart for other in chosen):
            chosen.append(step)
    return [step * _STEP + _STEP // 2 for step in chosen]


def _paused(clip: Clip, places: list[int], median_ms: float, chance: random.Random) -> Said:
    """The recording with pauses; where it is low already, only what is missing is put in."""
    pieces: list[Samples] = []
    pauses: list[tuple[int, int]] = []
    position = length = 0
    for place in places:
        drawn_ms = min(max(chance.lognormvariate(0.0, SPREAD) * median_ms, SHORTEST_MS), LONGEST_MS)
        pieces.append(_faded(clip.samples[position:place]))
        length += place - position
        noise = _noise(clip.samples, round(drawn_ms * RATE_HZ / 1000), chance)
        pieces.append(noise)
        pauses.append((length, length + len(noise)))
        length, position = length + len(noise), place
    pieces.append(_faded(clip.samples[position:]))
    return Said(clip.name, np.concatenate(pieces), tuple(pauses))


def _faded(samples: Samples) -> Samples:
    """Without a click at its ends."""
    shape = np.ones(len(samples), np.float32)
    shape[:_FADE] = np.linspace(0.0, 1.0, _FADE)
    shape[-_FADE:] = np.linspace(1.0, 0.0, _FADE)
    return samples * shape


def _noise(samples: Samples, length: int, chance: random.Random) -> Samples:
    """Noise with the spectrum of the recording's quietest tenth of a second."""
    span = RATE_HZ // 10
    quiet = min((samples[start : start + span] for start in range(0, len(samples) - span, span // 4)), key=_power)
    level = np.abs(np.fft.rfft(quiet))
    turns = np.random.default_rng(chance.getrandbits(32)).uniform(0.0, 2 * np.pi, (length // span + 1, len(level)))
    noise: Samples = np.fft.irfft(level * np.exp(1j * turns), span, axis=1).ravel()[:length].astype(np.float32)
    return noise


def _power(samples: Samples) -> float:
    return float(np.mean(samples**2))
