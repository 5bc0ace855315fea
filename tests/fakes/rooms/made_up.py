"""What fake rooms give: tokens, samples and voices, drawn from what they were given and from nothing else."""

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.orchestrator.ports.rooms import PreparedVoice
from services.shared.codec import (
    CODEC_SIZE,
    GROUP_LINGUISTIC,
    GROUP_SEMANTIC,
    LINGUISTIC_SIZE,
    SEMANTIC_OFFSET,
    SEMANTIC_SIZE,
    TOKEN_RATE_HZ,
)

INPUT_RATE_HZ: Final = 16_000
OUTPUT_RATE_HZ: Final = 22_050
GROUP_SAMPLES: Final = 1920
"""120 ms at 16 kHz: one group."""
MEL_CHANNELS: Final = 80
EMBEDDING_SIZE: Final = 192


def made_up_voice(
    voice_id: str = "fake", *, speaker: str = "Fake", transcript: str = "Hello.", tokens: tuple[int, ...] = ()
) -> PreparedVoice:
    """A voice with features of the right shapes; two mel frames for each token."""
    mel = np.zeros((2 * len(tokens), MEL_CHANNELS), np.float32)
    return PreparedVoice(voice_id, speaker, transcript, tokens, mel, np.zeros(EMBEDDING_SIZE, np.float32))


def group_of(key: int) -> tuple[int, ...]:
    """A whole group of codec values drawn from a number."""
    linguistic = [(key * 31 + place * 7) % LINGUISTIC_SIZE for place in range(GROUP_LINGUISTIC)]
    semantic = [SEMANTIC_OFFSET + (key * 17 + place * 11) % SEMANTIC_SIZE for place in range(GROUP_SEMANTIC)]
    return (*linguistic, *semantic)


def tokens_of(samples: NDArray[np.float32]) -> tuple[int, ...]:
    """The tokens that `FakeTokenizer` hears in an utterance."""
    whole = len(samples) - len(samples) % GROUP_SAMPLES
    return tuple(
        token
        for start in range(0, whole, GROUP_SAMPLES)
        for token in group_of(zlib.crc32(samples[start : start + GROUP_SAMPLES].tobytes()))
    )


def wave_of(tokens: Sequence[int], *, start: int, seed: int) -> NDArray[np.float32]:
    """The samples that `FakeVocoder` makes of tokens that stand at `start` of their stream: a level for each."""
    ends = [(start + place) * OUTPUT_RATE_HZ // TOKEN_RATE_HZ for place in range(len(tokens) + 1)]
    levels = [((token + seed) % CODEC_SIZE + 1) / CODEC_SIZE - 0.5 for token in tokens]
    return np.repeat(np.array(levels, np.float32), np.diff(np.array(ends, np.int64)))
