"""Fields of a message, checked one by one: a value out of its range is refused with its path, never bent into it.

A field that was not set keeps the value in force. A field of a newer API asks for what this server does not know, and
is refused as well: nothing that a caller asks for is ignored.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from services.shared.errors import InvalidOptionError

LARGEST_INT64: Final = 2**63 - 1
Kept = TypeVar("Kept")
Choice = TypeVar("Choice", bound=StrEnum)


class Fields:
    """The fields of one message.

    Args:
        message: what came.
        path: of the message in what the client sent, for the errors.

    Raises:
        InvalidOptionError: it has a field that this server does not know.
    """

    def __init__(self, message: Message, path: str) -> None:
        self._message = message
        self._path = path
        unknown = UnknownFieldSet(message)
        if len(unknown):
            field = self.path(str(unknown[0].field_number))
            raise InvalidOptionError(f"{field} is a field that this server does not know", field=field)

    def path(self, name: str) -> str:
        """Path of a field in what the client sent."""
        return f"{self._path}.{name}" if self._path else name

    def below(self, name: str) -> "Fields":
        """The fields of a nested message; of one that is not set, none is set."""
        return Fields(getattr(self._message, name), self.path(name))

    def is_set(self, name: str) -> bool:
        """Whether the client set an optional field or a nested message."""
        return self._message.HasField(name)

    def integer(self, name: str, kept: Kept, low: int, high: int) -> int | Kept:
        """A whole number from low to high.

        Raises:
            InvalidOptionError: it is outside.
        """
        if not self.is_set(name):
            return kept
        value: int = getattr(self._message, name)
        if not low <= value <= high:
            raise self.refused(name, str(value), f"{low} to {high}")
        return value

    def integer_or_0(self, name: str, kept: int, low: int, high: int) -> int:
        """A whole number from low to high, or 0 for none. Raises InvalidOptionError."""
        if self.is_set(name) and getattr(self._message, name) == 0:
            return 0
        return self.integer(name, kept, low, high)

    def real(self, name: str, kept: Kept, low: float, high: float, *, above_low: bool = False) -> float | Kept:
        """A finite number from low to high, or above low where that itself is none.

        Raises:
            InvalidOptionError: it is outside, or no number.
        """
        if not self.is_set(name):
            return kept
        value: float = getattr(self._message, name)
        inside = math.isfinite(value) and low <= value <= high and not (above_low and value == low)
        if not inside:
            raise self.refused(name, f"{value:g}", f"{'above ' if above_low else ''}{low:g} to {high:g}")
        return value

    def flag(self, name: str, kept: bool) -> bool:
        """A yes or no."""
        return bool(getattr(self._message, name)) if self.is_set(name) else kept

    def text(self, name: str, kept: str, longest: int) -> str:
        """Characters, at most `longest`. Raises InvalidOptionError."""
        if not self.is_set(name):
            return kept
        value: str = getattr(self._message, name)
        if len(value) > longest:
            raise self.refused(name, f"{len(value)} characters", f"at most {longest} characters")
        return value

    def choice(self, name: str, kept: Choice, choices: Mapping[int, Choice]) -> Choice:
        """One of an enum's values; unspecified (0) keeps.

        Raises:
            InvalidOptionError: it is a value that this server does not know.
        """
        number = int(getattr(self._message, name))
        if number == 0:
            return kept
        if number not in choices:
            raise self.refused(name, str(number), ", ".join(choice.name for choice in choices.values()))
        return choices[number]

    def refused(self, name: str, value: str, limit: str) -> InvalidOptionError:
        """The error for a field's value."""
        field = self.path(name)
        return InvalidOptionError(f"{field} is {value}; it takes {limit}", field=field, value=value, limit=limit)
