"""The file of a recording: JSON Lines, UTF-8, one session on one replica.

    {"recording":1,"content":"shapes","beginning":{"session_id":"…",…}}      the first line
    {"event":{"is":"VoiceFrame","at_s":12.3,…}}                              nothing followed from it
    {"event":{"is":"TextTurn",…},"effects":[…],"state":"Silence Replying …"} effects in order, and the state after them
    {"event":{…},"raised":"KeyError"}                                        the core itself failed
    {"end":"size"}                                                           no more room: more happened

Fields have one order and numbers one form, so that equal steps are equal lines. The version is raised by whatever makes
old files unreadable. A last line that was cut by the death of the process is left out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn

from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.events import Event
from services.orchestrator.conversation.state import State
from services.orchestrator.pipeline.core import Beginning
from services.orchestrator.replay.codec import Codec
from services.orchestrator.replay.redaction import hide
from services.shared.errors import InvalidInputError

VERSION: Final = 1
END_BY_SIZE: Final = '{"end":"size"}'
BEGINNINGS: Final = Codec[Beginning](Beginning, hide)
EVENTS: Final = Codec[Event](Event, hide)
EFFECTS: Final = Codec[Effect](Effect, hide)
_STEP_FIELDS: Final = ({"event"}, {"event", "effects", "state"}, {"event", "raised"})


class Content(StrEnum):
    """What is recorded of words."""

    SHAPES = "shapes"
    """Their lengths and their ends; see redaction.py."""
    TEXT = "text"
    """All of them."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line.

    Attributes:
        content: what there is of words.
        beginning: what the core began with.
    """

    content: Content
    beginning: Beginning


@dataclass(frozen=True, slots=True)
class Step:
    """A later line.

    Attributes:
        number: of the line, from 1.
        event: what happened.
        line: as it stands in the file.
    """

    number: int
    event: Event
    line: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that was read.

    Attributes:
        head: its first line.
        steps: the others.
        is_cut: more happened than is recorded: there was no more room, or the last line is not whole.
    """

    head: Head
    steps: tuple[Step, ...]
    is_cut: bool


def write_head(head: Head) -> str:
    """The first line."""
    hides = head.content is Content.SHAPES
    beginning = BEGINNINGS.write(head.beginning, hides_text=hides)
    return _line({"recording": VERSION, "content": str(head.content), "beginning": beginning})


def write_step(event: Event, effects: tuple[Effect, ...], state: str, content: Content) -> str:
    """A line of an event and what followed from it; `state` is as `describe` gives it, empty where it is as before."""
    hides = content is Content.SHAPES
    step: dict[str, Any] = {"event": EVENTS.write(event, hides_text=hides)}
    if effects or state:
        step |= {"effects": [EFFECTS.write(effect, hides_text=hides) for effect in effects], "state": state}
    return _line(step)


def write_failure(event: Event, error: Exception, content: Content) -> str:
    """A line of an event that made the core fail."""
    plain = EVENTS.write(event, hides_text=content is Content.SHAPES)
    return _line({"event": plain, "raised": type(error).__name__})


def describe(state: State) -> str:
    """What both machines and the turns are at, for people."""
    turns = " ".join(f"{turn.number}:{turn.phase}" for turn in state.turns)
    waiting = f" waiting {len(state.waiting)}" if state.waiting else ""
    return f"{state.user.state} {state.agent} {state.stream} epoch {state.epoch} turns [{turns}]{waiting}"


def read_recording(data: bytes) -> Recording:
    """Read a file.

    Raises:
        InvalidInputError: it is no recording, it is damaged, or a newer release wrote it; the detail `field` has the
            line.
    """
    lines = data.split(b"\n")
    is_whole = lines.pop() == b""
    if not lines:
        _refuse(1, "there is no first line")
    texts = [_decoded(number, line) for number, line in enumerate(lines, 1)]
    has_end = texts[-1] == END_BY_SIZE
    head = _read_head(texts[0])
    steps = tuple(_read_steps(texts[1:-1] if has_end and len(texts) > 1 else texts[1:]))
    return Recording(head, steps, is_cut=has_end or not is_whole)


def _read_head(text: str) -> Head:
    plain = _parsed(1, text)
    if type(plain) is not dict or "recording" not in plain:
        _refuse(1, "it does not begin a recording")
    if plain["recording"] != VERSION:
        _refuse(1, f"it is of version {plain['recording']!r}, and this release reads version {VERSION}")
    try:
        if plain.keys() != {"recording", "content", "beginning"}:
            raise TypeError(f"it has {', '.join(map(repr, plain))}")
        return Head(Content(plain["content"]), BEGINNINGS.read(plain["beginning"]))
    except (TypeError, ValueError) as error:
        _refuse(1, str(error), error)


def _read_steps(texts: list[str]) -> Iterator[Step]:
    for number, text in enumerate(texts, 2):
        plain = _parsed(number, text)
        if type(plain) is not dict or set(plain) not in _STEP_FIELDS:
            _refuse(number, "it is no step")
        try:
            yield Step(number, EVENTS.read(plain["event"]), text)
        except (TypeError, ValueError) as error:
            _refuse(number, str(error), error)


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        _refuse(number, "it is no text", error)


def _parsed(number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(number, f"it is no JSON: {error}", error)


def _line(plain: object) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _refuse(number: int, why: str, cause: BaseException | None = None) -> NoReturn:
    raise InvalidInputError(f"line {number} of the recording: {why}", field=f"line {number}") from cause
