"""Values as they are written: JSON under a version, read back strictly or not at all. Never code.

    {"v": 1, "value": …}    a value class is an object of all its fields, an enumeration its value, a tuple an array

What is written is a contract with every other release that shares the store:

1. A reader takes what it knows and refuses the rest: a version above `VERSION`, a field missing or too many, another
   type, a number that is not finite. What is refused is an error, and stays as it is in the store.
2. Any change of a kept class, of a key or of a script's fields raises `VERSION`. A test holds each form to a recorded
   sample, so none changes unnoticed.
3. It comes in two releases, so that a rolling upgrade and its way back both work: the first reads the old version and
   the new and still writes the old, the second writes the new. A third may forget the old once nothing that old can
   still be kept.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final, Generic, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, ToolCall, ToolResult, UtteranceSpeech
from services.orchestrator.ports.store import Consent, KeptTurn, OpenTurn, StreamFormats
from services.shared.errors import StepAudioError

VERSION: Final = 1
_NEVER_KEPT: Final = (types.NoneType, UtteranceSpeech)
"""Beside what is kept, what a context may hold for as long as a reply is worked out."""
_TAGGED: Final = {kind.__name__: kind for kind in (ToolCall, ToolResult)}
"""What may stand in the place of a text, as an object of its name and its fields."""
_Value = TypeVar("_Value")


class Form(Generic[_Value]):
    """How the values of one type are written."""

    def __init__(self, kind: object) -> None:
        """Args: kind: the type, made of value classes, enumerations, tuples, mappings of text, and plain values."""
        self._kind = kind

    def write(self, value: _Value) -> bytes:
        """Write a value.

        Raises:
            StepAudioError: it holds what is not kept: another type, NaN, infinity, half a character.
        """
        try:
            plain = {"v": VERSION, "value": _write(value, self._kind, "")}
            return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise StepAudioError(f"this cannot be kept: {error}") from error

    def read(self, text: bytes) -> _Value:
        """Read one.

        Raises:
            StepAudioError: it was written by a newer release, or is damaged.
        """
        try:
            plain = json.loads(text, parse_constant=_refuse_constant)
            if not isinstance(plain, dict) or plain.keys() != {"v", "value"}:
                raise TypeError("it has no version")
            check_version(plain["v"])
            value: _Value = _read(plain["value"], self._kind, "")
            return value
        except (TypeError, ValueError) as error:
            raise StepAudioError(f"what the store has of {self._kind} is damaged: {error}") from error


def check_version(version: object) -> None:
    """Refuse what a newer release wrote.

    Raises:
        StepAudioError: it did.
        TypeError: that is no version.
    """
    if type(version) is not int or version < 1:
        raise TypeError(f"its version is {version!r}")
    if version > VERSION:
        raise StepAudioError(f"a newer release keeps this in version {version}; this one reads up to {VERSION}")


@dataclasses.dataclass(frozen=True, slots=True)
class VoiceAbout:
    """What is told about a voice; when it was made and its features are kept beside it."""

    display_name: str
    transcript: str
    clip_ms: int
    consent: Consent


OPTIONS: Final = Form[Options](Options)
FORMATS: Final = Form[StreamFormats](StreamFormats)
HISTORY: Final = Form[tuple[Message, ...]](tuple[Message, ...])
LABELS: Final = Form[Mapping[str, str]](Mapping[str, str])
TURN: Final = Form[KeptTurn](KeptTurn)
OPEN_TURN: Final = Form[OpenTurn](OpenTurn)
VOICE: Final = Form[VoiceAbout](VoiceAbout)
TOKENS: Final = Form[tuple[int, ...]](tuple[int, ...])


@cache
def _fields(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _tags(kind: object) -> tuple[type, ...]:
    """What of a union is written under its name."""
    if get_origin(kind) not in (Union, types.UnionType):
        return ()
    return tuple(part for part in get_args(kind) if part in _TAGGED.values())


def _choice(kind: Any) -> tuple[Any, bool]:
    """The type behind `X | None`, and whether None may be. What is never kept is no choice."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    (only,) = [part for part in get_args(kind) if part not in (*_NEVER_KEPT, *_TAGGED.values())]
    return only, types.NoneType in get_args(kind)


def _write(value: object, kind: Any, path: str) -> object:  # kind: a type or an alias of one, which share no base
    if type(value) in _tags(kind):
        return {type(value).__name__: _write(value, type(value), path)}
    kind, may_be_none = _choice(kind)
    if value is None and may_be_none:
        return None
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _expect(type(value) is kind, path, kind, value)
        parts = _fields(kind).items()
        return {name: _write(getattr(value, name), part, f"{path}.{name}") for name, part in parts}
    if get_origin(kind) is tuple and isinstance(value, tuple):
        return [_write(item, get_args(kind)[0], f"{path}[{place}]") for place, item in enumerate(value)]
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        return {_write(key, str, path): _write(text, str, f"{path}.{key}") for key, text in value.items()}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        _expect(type(value) is kind, path, kind, value)
        return str(value)
    return _plain(value, kind, path)


def _read(value: Any, kind: Any, path: str) -> Any:  # what JSON gives, and what `kind` says
    if type(value) is dict and len(value) == 1 and (tagged := _TAGGED.get(next(iter(value)))) in _tags(kind):
        return _read(next(iter(value.values())), tagged, path)
    kind, may_be_none = _choice(kind)
    if value is None and may_be_none:
        return None
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _expect(type(value) is dict, path, kind, value)
        parts = _fields(kind)
        if wrong := sorted(parts.keys() ^ value.keys()):
            raise TypeError(f"{path or kind.__name__} lacks, or has and should not: {', '.join(wrong)}")
        return kind(**{name: _read(value[name], part, f"{path}.{name}") for name, part in parts.items()})
    if get_origin(kind) is tuple and type(value) is list:
        return tuple(_read(item, get_args(kind)[0], f"{path}[{place}]") for place, item in enumerate(value))
    if get_origin(kind) is Mapping and type(value) is dict:
        return {key: _plain(text, str, f"{path}.{key}") for key, text in value.items()}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(str(_plain(value, str, path)))
    return _plain(value, kind, path)


def _plain(value: object, kind: object, path: str) -> object:
    """A text, whole number, number or truth of exactly this kind; a whole number may stand for a number."""
    if kind is float and type(value) in (int, float):
        number = float(value)  # type: ignore[arg-type]  # the line above says what it is
        if not math.isfinite(number):
            raise ValueError(f"{path or 'it'} is {number}")
        return number
    _expect(kind in (str, int, bool) and type(value) is kind, path, kind, value)
    return value


def _expect(holds: bool, path: str, kind: object, value: object) -> None:
    if not holds:
        raise TypeError(f"{path or 'it'} should be {getattr(kind, '__name__', kind)} and is {type(value).__name__}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
