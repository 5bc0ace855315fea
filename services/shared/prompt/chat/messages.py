"""One turn of a conversation, checked when it is written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.shared.codec.codebooks import CODEC_SIZE
from services.shared.errors import InvalidOptionError, UnknownTokenError

TURN_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"system": "system", "user": "human", "human": "human", "assistant": "assistant"}
)
"""Role of a message -> how the model's turns name it."""


@dataclass(frozen=True, slots=True)
class SpeechContent:
    """Speech said in a turn.

    Attributes:
        tokens: codec values 0..5119, interleaved 2:3; any sequence or array of integers is taken.

    Raises:
        UnknownTokenError: there are none, or one is outside the codec.
    """

    tokens: tuple[int, ...]

    def __init__(self, tokens: Sequence[int] | NDArray[np.int64]) -> None:
        values = tuple(int(token) for token in tokens)
        if not values or not all(0 <= value < CODEC_SIZE for value in values):
            raise UnknownTokenError(f"speech needs tokens, each within 0..{CODEC_SIZE - 1}")
        object.__setattr__(self, "tokens", values)


@dataclass(frozen=True, slots=True)
class CallContent:
    """What stands between the marks of a call of a function."""

    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: "system", "user" (or "human", the model's own word) or "assistant".
        content: what was written or spoken; words and calls where both stand in one turn; None leaves the assistant's
            turn open, for the model to go on.
        begun: of an open turn, the text that it begins with.

    Raises:
        InvalidOptionError: the role is unknown.
    """

    role: str
    content: str | SpeechContent | tuple[str | CallContent, ...] | None
    begun: str = ""

    def __post_init__(self) -> None:
        if self.role not in TURN_NAMES:
            raise InvalidOptionError(f"role {self.role!r} is none of {', '.join(TURN_NAMES)}")
