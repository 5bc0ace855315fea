"""Every random number of the vocoder as a function of (seed, what, frame).

A counter-based generator gives each block of mel frames its own numbers, so the same frame hears the same noise in an
offline run, in any window of a stream, on any replica, and no random state has to be carried along.

Source: Philox 4x64 (Salmon and others, 2011) as in numpy.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.shared.errors import InvalidOptionError

Noise = NDArray[np.float32]

_BLOCK_FRAMES: Final = 32
_TARGET, _PROMPT, _SOURCE, _PHASE = range(4)


def check_seed(seed: int) -> int:
    """Return the seed; raises InvalidOptionError outside 0 .. 2^63 - 1."""
    if not 0 <= seed < 2**63:
        raise InvalidOptionError(f"the seed must be within 0..2^63-1, not {seed}")
    return seed


def mel_noise(seed: int, mel_channels: int, *, start: int, end: int) -> Noise:
    """Start noise of the flow for target frames [start, end); [1, mel_channels, end - start], normal."""
    return _frames(seed, _TARGET, (mel_channels,), (start, end)).T[None]


def prompt_noise(seed: int, mel_channels: int, frames: int) -> Noise:
    """Start noise of the flow for the prompt's frames; [1, mel_channels, frames], normal."""
    return _frames(seed, _PROMPT, (mel_channels,), (0, frames)).T[None]


def source_noise(seed: int, harmonics: int, hop_samples: int, *, start: int, end: int) -> Noise:
    """Noise of HiFT's source for target frames [start, end); [1, harmonics, (end - start) * hop_samples], normal."""
    frames = _frames(seed, _SOURCE, (hop_samples, harmonics), (start, end))
    return frames.reshape(-1, harmonics).T[None]


def source_phase(seed: int, harmonics: int) -> Noise:
    """Start phases of HiFT's harmonics; [1, harmonics, 1] radians within -pi..pi."""
    phase = _generator(seed, _PHASE, 0).uniform(-np.pi, np.pi, harmonics)
    return phase.astype(np.float32).reshape(1, harmonics, 1)


def _frames(seed: int, stream: int, shape: tuple[int, ...], span: tuple[int, int]) -> Noise:
    start, end = span
    first = start // _BLOCK_FRAMES
    blocks = [
        _generator(seed, stream, block).standard_normal((_BLOCK_FRAMES, *shape), dtype=np.float32)
        for block in range(first, -(-end // _BLOCK_FRAMES))
    ]
    joined = np.concatenate(blocks) if blocks else np.zeros((0, *shape), np.float32)
    return joined[start - first * _BLOCK_FRAMES : end - first * _BLOCK_FRAMES]


def _generator(seed: int, stream: int, block: int) -> np.random.Generator:
    key = np.array([check_seed(seed), stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, block], dtype=np.uint64)))
