"""Values of the conversation as plain JSON and back, made from the dataclasses themselves; nothing is ever executed.

    value class        an object of all its fields; where one of several may stand, its name comes first, as "is"
    enumeration        its value            named tuple, tuple   an array          set      a sorted array
    error              {"is", "message", "details"}, by its class in services/shared/errors.py
    samples of audio   null: the core passes them on and never looks into them

A type that is none of these is refused when the codec is made, not when a value comes. What is read is checked against
the types as strictly: nothing is missing, nothing is too much, nothing is of another kind.
"""

import dataclasses
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from services.orchestrator.conversation.history import EndedTurn, PastTurn
from services.orchestrator.conversation.record import Origin, ToolExchange
from services.shared import errors

IS: Final = "is"
Value = TypeVar("Value")
Write = Callable[[Any, bool], Any]
Read = Callable[[Any], Any]
HideText = Callable[[type, str, str, object], str]
"""Given a class, a field of it, the text in it, and the value that it stands in: the text as it is written."""


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """What the core reads of a turn that was kept."""

    number: int
    origin: Origin
    user_text: str
    agent_text: str
    request_id: str
    tool_exchanges: tuple[ToolExchange, ...] = ()


@dataclass(frozen=True, slots=True)
class _Form:
    """How the values of a type are written and read; `write` is given whether text is hidden."""

    write: Write
    read: Read
    matches: Callable[[Any], bool]


class Codec(Generic[Value]):
    """How the values of one type are written.

    Args:
        kind: the type.
        hide: gives texts as they are written where they are hidden.
    """

    def __init__(self, kind: Any, hide: HideText) -> None:  # Any: types and aliases of them share no base
        self._form = _Forms(hide).of(kind)

    def write(self, value: Value, *, hides_text: bool) -> Any:
        """What JSON can write of a value. Raises TypeError if it is of another type."""
        if not self._form.matches(value):
            raise TypeError(f"{type(value).__name__} is not recorded here")
        return self._form.write(value, hides_text)

    def read(self, plain: Any) -> Value:
        """The value. Raises TypeError or ValueError, with what is wrong, if there is none."""
        value: Value = self._form.read(plain)
        return value


@cache
def fields_of(kind: type) -> dict[str, Any]:
    """Names and types of a value class's fields."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


class _Forms:
    """Makes the form of each type once."""

    def __init__(self, hide: HideText) -> None:
        self._hide = hide
        self._known: dict[Any, _Form] = {}

    def of(self, kind: Any) -> _Form:
        if kind not in self._known:
            self._known[kind] = self._make(kind)
        return self._known[kind]

    def _make(self, kind: Any) -> _Form:
        origin = get_origin(kind)
        if kind in (PastTurn, EndedTurn):
            return self._past_turn()
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind))
        if origin in (tuple, frozenset):
            return self._array(get_args(kind)[0], origin)
        if kind in _PLAIN:
            return _PLAIN[kind]
        if not isinstance(kind, type):
            raise TypeError(f"{kind} cannot be recorded")
        return self._of_class(kind)

    def _of_class(self, kind: type) -> _Form:
        if issubclass(kind, StrEnum):
            return _Form(lambda value, hides: str(value), lambda plain: kind(_text(plain)), _is_a(kind))
        if issubclass(kind, errors.StepAudioError):
            return _Form(_write_error, _read_error, _is_a(errors.StepAudioError))
        if issubclass(kind, tuple):
            return self._named_tuple(kind)
        if dataclasses.is_dataclass(kind):
            return self._fields(kind)
        raise TypeError(f"{kind} cannot be recorded")

    def _fields(self, kind: type) -> _Form:
        forms: dict[str, _Form] = {}
        texts = {name for name, part in fields_of(kind).items() if part is str or str in get_args(part)}

        def write(value: Any, hides: bool) -> Any:
            written = {name: form.write(getattr(value, name), hides) for name, form in forms.items()}
            if hides:
                hidden = {name: text for name in texts if isinstance(text := written[name], str)}
                written |= {name: self._hide(kind, name, text, value) for name, text in hidden.items()}
            return written

        def read(plain: Any) -> Any:
            if type(plain) is not dict:
                raise TypeError(f"{kind.__name__} should be an object and is {_name(plain)}")
            if wrong := sorted(forms.keys() ^ plain.keys()):
                raise TypeError(f"{kind.__name__} lacks, or has and should not: {', '.join(wrong)}")
            return kind(**{name: _in(f"{kind.__name__}.{name}", form, plain[name]) for name, form in forms.items()})

        made = self._known[kind] = _Form(write, read, lambda value: type(value) is kind)
        forms.update({name: self.of(part) for name, part in fields_of(kind).items()})
        return made

    def _named_tuple(self, kind: Any) -> _Form:
        forms = [self.of(part) for part in get_type_hints(kind).values()]

        def read(plain: Any) -> Any:
            if type(plain) is not list or len(plain) != len(forms):
                raise TypeError(f"{kind.__name__} should be an array of {len(forms)} and is {_name(plain)}")
            return kind(*(form.read(part) for form, part in zip(forms, plain, strict=True)))

        return _Form(lambda value, hides: list(value), read, _is_a(kind))

    def _array(self, part: Any, kind: type[Any]) -> _Form:
        form = self.of(part)

        def write(value: Any, hides: bool) -> Any:
            written = [form.write(item, hides) for item in value]
            return sorted(written) if kind is frozenset else written

        def read(plain: Any) -> Any:
            if type(plain) is not list:
                raise TypeError(f"an array is wanted and {_name(plain)} stands there")
            return kind(form.read(item) for item in plain)

        return _Form(write, read, _is_a(kind))

    def _union(self, kinds: tuple[Any, ...]) -> _Form:
        """One of several: value classes by their names, and beside them plain values of at most one kind each."""
        forms = [(kind, self.of(kind)) for kind in kinds]
        tagged = {kind.__name__: form for kind, form in forms if _is_value_class(kind)}
        plain_forms = [form for kind, form in forms if not _is_value_class(kind)]
        only_one = len(tagged) == 1

        def write(value: Any, hides: bool) -> Any:
            name = next(iter(tagged)) if only_one else type(value).__name__
            if name in tagged and tagged[name].matches(value):
                written = tagged[name].write(value, hides)
                return written if only_one else {IS: name, **written}
            for form in plain_forms:
                if form.matches(value):
                    return form.write(value, hides)
            raise TypeError(f"{type(value).__name__} is not recorded here")

        def read(plain: Any) -> Any:
            if type(plain) is dict and (only_one or IS in plain) and tagged:
                name = next(iter(tagged)) if only_one else plain[IS]
                if name not in tagged:
                    raise TypeError(f"{name!r} is none of {', '.join(tagged)}")
                return tagged[name].read({key: part for key, part in plain.items() if only_one or key != IS})
            wrong = ""
            for form in plain_forms:
                try:
                    return form.read(plain)
                except (TypeError, ValueError) as error:
                    wrong = str(error)
            raise TypeError(wrong or f"{_name(plain)} is none of {', '.join(tagged)}")

        def matches(value: Any) -> bool:
            return any(form.matches(value) for _, form in forms)

        return _Form(write, read, matches)

    def _past_turn(self) -> _Form:
        form = self.of(RecordedTurn)
        names = fields_of(RecordedTurn)

        def write(value: Any, hides: bool) -> Any:
            kept: dict[str, Any] = {name: getattr(value, name) for name in names if hasattr(value, name)}
            return form.write(RecordedTurn(**kept), hides)

        read = [name for name in names if name != "tool_exchanges"]  # an open turn has none
        return _Form(write, form.read, lambda value: all(hasattr(value, name) for name in read))


def _is_value_class(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or kind in (PastTurn, EndedTurn)


def _is_a(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _expecting(kind: type) -> Read:
    def read(plain: Any) -> Any:
        if type(plain) is not kind:
            raise TypeError(f"{kind.__name__} is wanted and {_name(plain)} stands there")
        return plain

    return read


def _in(place: str, form: _Form, plain: Any) -> Any:
    try:
        return form.read(plain)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{place}: {error}") from error


def _text(plain: Any) -> str:
    text: str = _expecting(str)(plain)
    return text


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be recorded")
    return value


def _read_float(plain: Any) -> float:
    if not _is_number(plain):
        raise TypeError(f"a number is wanted and {_name(plain)} stands there")
    return _number(float(plain))


def _write_error(error: errors.StepAudioError, hides: bool) -> Any:
    """The class, and what it says; that may quote the caller, so that it is hidden with the texts."""
    name = next(kind.__name__ for kind in type(error).__mro__ if vars(errors).get(kind.__name__) is kind)
    told = ("", {}) if hides else (str(error), dict(sorted(error.details.items())))
    return {IS: name, "message": told[0], "details": told[1]}


def _read_error(plain: Any) -> errors.StepAudioError:
    if type(plain) is not dict or plain.keys() != {IS, "message", "details"}:
        raise TypeError(f"an error is wanted and {_name(plain)} stands there")
    kind = vars(errors).get(_text(plain[IS]))
    if not (isinstance(kind, type) and issubclass(kind, errors.StepAudioError)):
        raise TypeError(f"{plain[IS]!r} is no error of this project")
    if type(plain["details"]) is not dict:
        raise TypeError("an error's details are an object")
    return kind(_text(plain["message"]), **{name: _text(value) for name, value in plain["details"].items()})


def _name(plain: object) -> str:
    return "null" if plain is None else type(plain).__name__


def _as_it_is(kind: type) -> _Form:
    return _Form(lambda value, hides: value, _expecting(kind), lambda value: type(value) is kind)


_NOTHING: Final = _expecting(types.NoneType)
_PLAIN: Final[dict[Any, _Form]] = {
    str: _as_it_is(str),
    int: _as_it_is(int),
    bool: _as_it_is(bool),
    float: _Form(lambda value, hides: _number(float(value)), _read_float, _is_number),
    object: _Form(lambda value, hides: None, _NOTHING, lambda value: True),
    types.NoneType: _Form(lambda value, hides: None, _NOTHING, lambda value: value is None),
}
