"""Every constant of the codec, each with its origin. Source: the released tokenizer.py and the technical report."""

from fractions import Fraction
from typing import Final

LINGUISTIC_SIZE: Final = 1024
"""Centroids in linguistic_tokenizer.npy."""
SEMANTIC_SIZE: Final = 4096
"""Codebook of speech_tokenizer_v1.onnx."""
SEMANTIC_OFFSET: Final = LINGUISTIC_SIZE
"""Codec value of semantic code 0."""
CODEC_SIZE: Final = LINGUISTIC_SIZE + SEMANTIC_SIZE
"""Codec values are 0 <= value < CODEC_SIZE."""

GROUP_LINGUISTIC: Final = 2
GROUP_SEMANTIC: Final = 3
GROUP_TOKENS: Final = GROUP_LINGUISTIC + GROUP_SEMANTIC
GROUP_MS: Final = 120
"""One group of the 2:3 interleave: two 60 ms linguistic frames, three 40 ms semantic frames."""

LINGUISTIC_RATE_HZ: Final = Fraction(1000 * GROUP_LINGUISTIC, GROUP_MS)
SEMANTIC_RATE_HZ: Final = Fraction(1000 * GROUP_SEMANTIC, GROUP_MS)
TOKEN_RATE_HZ: Final = Fraction(1000 * GROUP_TOKENS, GROUP_MS)
"""41.67 speech tokens per second."""
