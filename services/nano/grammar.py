"""The notation of the recipe's text files: patterns with alternatives, slots, and sections of questions and replies.

Decides: how a section of data/*.txt becomes items. Refuses to know: what the texts are about, speech, training.

    == intent            a section
    : country capital    names of the slots            | France | Paris    one row of values
    $ fact               a sentence of the system prompt
    ~ role: turn         an earlier turn; "~ filler" stands for a turn of small talk
    > question           ! result of a tool, which takes the question's place
    < reply              = an equally right reply

In questions and turns (a|b) are alternatives and [a|b] are alternatives or nothing. {slot} is the row's value, {Slot}
the same with a capital, {slot_low} without. [[call]] in a reply is a tool call.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from services.shared.errors import CorruptFileError

CALL_START: Final = "<|CALL_START|>"
CALL_END: Final = "<|CALL_END|>"
FILLER: Final = "filler"
WORD: Final = re.compile(r"[A-Za-z][A-Za-z']*")
"""A word of the vocabulary, as it is written."""

Role = Literal["user", "assistant", "tool"]

_GROUP: Final = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")
_SLOT: Final = re.compile(r"\{(\w+)\}")
_CALL: Final = re.compile(r"\[\[(.*?)\]\]")
_ARTICLE_BEFORE_VOWEL: Final = re.compile(r"\b([Aa]) (?=(?!one\b|uni|euro)[aeiou]\w)")


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to learn: a last message in its context, and every reply that is right.

    Attributes:
        intent: the section it comes from.
        question: the last message.
        answers: right replies as the model writes them, with calls and style tags; the first is the one to learn.
        role: who says the last message; a tool's result is never spoken.
        facts: what the system prompt says about now, or "".
        history: earlier turns, oldest first; a turn of role "user" and text FILLER stands for any small talk.
    """

    intent: str
    question: str
    answers: tuple[str, ...]
    role: Role = "user"
    facts: str = ""
    history: tuple[Turn, ...] = ()

    @property
    def reply(self) -> str:
        """The reply to learn."""
        return self.answers[0]


@dataclass(slots=True)
class _Section:
    intent: str
    slots: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    facts: str = ""
    turns: list[Turn] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    role: Role = "user"
    answers: list[str] = field(default_factory=list)


def capitalized(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def with_articles(text: str) -> str:
    """The text with "an" for "a" before a vowel."""
    return _ARTICLE_BEFORE_VOWEL.sub(r"\1n ", text)


def expand(pattern: str) -> list[str]:
    """Every text of a pattern, in the order written, without repeats."""
    found = _GROUP.search(pattern)
    if not found:
        return [re.sub(r" +(?=[ ,.?!])", "", pattern).strip()]
    choices = found[1].split("|") if found[1] is not None else ["", *found[2].split("|")]
    texts = (text for choice in choices for text in expand(pattern[: found.start()] + choice + pattern[found.end() :]))
    return list(dict.fromkeys(capitalized(text) for text in texts))


def read_items(text: str, *, name: str) -> Iterator[Item]:
    """Items of a data file, in file order.

    Args:
        text: the file's content.
        name: the file's name, for errors.

    Raises:
        CorruptFileError: a line or slot that the notation does not know.
    """
    for section in _sections(text, name):
        for row in section.rows or [[]]:
            if len(row) != len(section.slots):
                raise CorruptFileError(f"{name}: section {section.intent} has a row {row} for slots {section.slots}")
            values = dict(zip(section.slots, row, strict=True))
            yield from _items_of_row(section, values)


def _items_of_row(section: _Section, values: Mapping[str, str]) -> Iterator[Item]:
    answers = tuple(_filled(answer, values) for answer in section.answers)
    histories = [()] if not section.turns else _histories(section.turns, values)
    questions = [text for pattern in section.questions for text in expand(_filled(pattern, values))]
    for number, question in enumerate(dict.fromkeys(questions)):
        yield Item(
            section.intent,
            question,
            answers,
            role=section.role,
            facts=_filled(section.facts, values),
            history=histories[number % len(histories)],
        )


def _histories(turns: list[Turn], values: Mapping[str, str]) -> list[tuple[Turn, ...]]:
    """One history for each way to say its first turn; the others are said one way."""
    first, *others = turns
    rest = tuple(Turn(turn.role, _filled(turn.text, values)) for turn in others)
    return [(Turn(first.role, text), *rest) for text in expand(_filled(first.text, values))]


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        slot = found[1]
        if slot.endswith("_low"):
            return values[slot.removesuffix("_low")].lower()
        return values[slot] if slot in values else capitalized(values[slot[:1].lower() + slot[1:]])

    try:
        filled = with_articles(_SLOT.sub(value, pattern))
    except KeyError as error:
        raise CorruptFileError(f"no slot {error} for {pattern!r}") from error
    return _CALL.sub(lambda found: f"{CALL_START}{found[1]}{CALL_END}", filled)


def _sections(text: str, name: str) -> Iterator[_Section]:
    section: _Section | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        mark, _, rest = line.partition(" ")
        if not line.strip() or mark == "#":
            continue
        if mark == "==":
            if section:
                yield section
            section = _Section(rest)
        elif section is None or not _read_line(section, mark, rest):
            raise CorruptFileError(f"{name}:{number}: {line!r} is no line of this notation")
    if section:
        yield section


def _read_line(section: _Section, mark: str, rest: str) -> bool:
    match mark:
        case ":":
            section.slots = rest.split()
        case "|":
            section.rows.append([cell.strip() for cell in rest.split("|")])
        case "$":
            section.facts = rest
        case "~":
            section.turns.append(_turn(rest))
        case ">":
            section.questions.append(rest)
        case "!":
            section.questions.append(rest)
            section.role = "tool"
        case "<":
            section.answers.insert(0, rest)
        case "=":
            section.answers.append(rest)
        case _:
            return False
    return True


def _turn(text: str) -> Turn:
    if text == FILLER:
        return Turn("user", FILLER)
    role, _, said = text.partition(": ")
    return Turn("assistant" if role == "assistant" else "user", said)
