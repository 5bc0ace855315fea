"""The dual-codebook speech codec: its constants, the 2:3 interleave, and the `<audio_N>` text form.

The two codebooks and their names in this project:

    linguistic   Paraformer encoder + k-means, 1024 codes, 16.67 Hz   released as vq02, "semantic" in its README
    semantic     CosyVoice S3 tokenizer, 4096 codes, 25 Hz            released as vq06, "acoustic" in its README

On the wire a speech token is one integer, the codec value: linguistic codes are 0..1023 as they are, semantic codes
are 1024..5119. Two linguistic and three semantic codes make a group of 120 ms; 41.67 tokens make a second.
"""

from services.shared.codec.codebooks import (
    CODEC_SIZE,
    GROUP_LINGUISTIC,
    GROUP_MS,
    GROUP_SEMANTIC,
    GROUP_TOKENS,
    LINGUISTIC_RATE_HZ,
    LINGUISTIC_SIZE,
    SEMANTIC_OFFSET,
    SEMANTIC_RATE_HZ,
    SEMANTIC_SIZE,
    TOKEN_RATE_HZ,
)
from services.shared.codec.interleave import deinterleave, interleave
from services.shared.codec.text_form import from_text, to_text

__all__ = [
    "CODEC_SIZE",
    "GROUP_LINGUISTIC",
    "GROUP_MS",
    "GROUP_SEMANTIC",
    "GROUP_TOKENS",
    "LINGUISTIC_RATE_HZ",
    "LINGUISTIC_SIZE",
    "SEMANTIC_OFFSET",
    "SEMANTIC_RATE_HZ",
    "SEMANTIC_SIZE",
    "TOKEN_RATE_HZ",
    "deinterleave",
    "from_text",
    "interleave",
    "to_text",
]
