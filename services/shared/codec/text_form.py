"""Speech tokens written as text, `<audio_N>` without separators: how speech stands inside a chat prompt."""

import re
from collections.abc import Iterable

from services.shared.codec.codebooks import CODEC_SIZE
from services.shared.errors import UnknownTokenError

_PIECE = re.compile(r"<audio_(\d+)>")


def to_text(values: Iterable[int]) -> str:
    """Write codec values 0..5119 as `<audio_N><audio_N>…`.

    Raises:
        UnknownTokenError: a value is outside the codec.
    """
    pieces = []
    for value in values:
        if not 0 <= value < CODEC_SIZE:
            raise UnknownTokenError(f"speech token {value} is outside 0..{CODEC_SIZE - 1}")
        pieces.append(f"<audio_{value}>")
    return "".join(pieces)


def from_text(text: str) -> list[int]:
    """Read `<audio_N><audio_N>…` back into codec values; the empty text is no tokens.

    Raises:
        UnknownTokenError: anything else stands in the text, or a value is outside the codec.
    """
    values: list[int] = []
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            raise UnknownTokenError(f"no <audio_N> piece at character {position} of the speech text")
        value = int(match[1])
        if value >= CODEC_SIZE:
            raise UnknownTokenError(f"speech token {value} is outside 0..{CODEC_SIZE - 1}")
        values.append(value)
        position = match.end()
    return values
