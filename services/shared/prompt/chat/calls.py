"""How the model is told of functions, and how it writes their calls: two forms, because checkpoints differ.

    JSON    the functions stand behind the system prompt, as JSON with their schemas; a call is a JSON object
            <|CALL_START|>{"name": "weather", "arguments": {"place": "Rome"}}<|CALL_END|>
    PAIRS   the model was trained for its functions and is told of none; a call is its name and words for arguments,
            and words that bridge the wait may follow it
            <|CALL_START|>weather; place=Rome<|CALL_END|> One moment, I will check.

Calls are read strictly: what is not exactly of the form is a call with a problem, for the model to be told. In the JSON
form nothing that follows a call is taken, but more calls: an answer before the result is a guess. Text that only looks
like a mark is text, since marks are seen as ids.

It refuses to know which functions there are, schemas, and who runs them.
Source: the released model has the marks and no form; JSON is that of OpenAI's functions, PAIRS that of the nano recipe.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from services.shared.prompt.chat.call_marks import CALL_END, CALL_START
from services.shared.prompt.chat.messages import CallContent, Message
from services.shared.text import StreamDecoder, TextTokenizer

LONGEST_CALL: Final = 8192
"""Characters of a call as the model writes it."""

_BEFORE_CALL: Final = "You can call functions. To call one, write its name and its arguments as "
_AFTER_CALL: Final = (
    " and end your turn; you are told the result, and answer then. Say nothing of functions that are not listed here.\n"
    "Functions:"
)
_CALL_EXAMPLE: Final = '{"name": "the name", "arguments": {"its arguments": "as its parameters say"}}'
_ERROR: Final = "error: "
_BETWEEN_PAIRS: Final = ";"
_IN_PAIR: Final = "="


class CallForm(StrEnum):
    """How a checkpoint is told of functions and calls them."""

    JSON = "json"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """A function as the model is told of it; without parameters it takes none."""

    name: str
    description: str
    parameters_json: str = ""


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as the model wrote it.

    Attributes:
        name: of the function; empty where none could be read.
        arguments_json: a JSON object.
        problem: what is wrong with the call's form, for the model.
        is_plain: the arguments are words, and the function's schema says what they stand for.
    """

    name: str
    arguments_json: str = "{}"
    problem: str = ""
    is_plain: bool = False


def system_with_functions(
    prompt: str, functions: Sequence[FunctionSchema], form: CallForm
) -> str | tuple[str | CallContent, ...]:
    """The system prompt, and behind it the functions: equal functions give equal ids, so that they stay cached."""
    if not functions or form is CallForm.PAIRS:
        return prompt
    head = f"{prompt}\n{_BEFORE_CALL}" if prompt else _BEFORE_CALL
    listed = "".join(f"\n{_as_json(function)}" for function in functions)
    return head, CallContent(_CALL_EXAMPLE), f"{_AFTER_CALL}{listed}"


def call_content(name: str, arguments_json: str, form: CallForm) -> CallContent:
    """A call of the past as the model would have written it."""
    if form is CallForm.JSON:
        return CallContent(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments_json}}}')
    arguments = json.loads(arguments_json)
    pairs = (f"{key}{_IN_PAIR}{value}" for key, value in arguments.items())
    return CallContent(f"{_BETWEEN_PAIRS} ".join((name, *pairs)))


def result_message(text: str, *, is_error: bool) -> Message:
    """The turn in which the model is told what a call gave."""
    return Message("system", f"{_ERROR}{text}" if is_error else text)


def read_call(text: str, form: CallForm) -> WrittenCall:
    """Read what stands between the marks of a call."""
    if form is CallForm.PAIRS:
        return _read_pairs(text)
    try:
        call = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return WrittenCall("", problem="the call is not JSON")
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        return WrittenCall("", problem='the call is no JSON object with a "name"')
    name, arguments = call["name"], call.get("arguments", {})
    if call.keys() - {"name", "arguments"}:
        return WrittenCall(name, problem='the call has more than "name" and "arguments"')
    if not isinstance(arguments, dict):
        return WrittenCall(name, problem="the arguments are no JSON object")
    return WrittenCall(name, json.dumps(arguments, ensure_ascii=False))


class CallReader:
    """Parts a reply, as its ids come, into its words and its calls.

    Args:
        tokenizer: of the checkpoint.
        form: how the checkpoint writes calls.

    Attributes:
        is_over: no words of the reply are taken any more.
    """

    def __init__(self, tokenizer: TextTokenizer, form: CallForm) -> None:
        self.is_over = False
        self._form = form
        self._start_id = tokenizer.id_of(CALL_START)
        self._end_id = tokenizer.id_of(CALL_END)
        self._words = tokenizer.stream_decoder()
        self._new_decoder = tokenizer.stream_decoder
        self._call: StreamDecoder | None = None
        self._text = ""
        self._is_called = False

    def push(self, ids: Iterable[int]) -> Iterator[str | WrittenCall]:
        """Take the next ids and give what is whole with them; words are never empty.

        Raises:
            UnknownTokenError: an id is outside the vocabulary.
        """
        for token in ids:
            if token == self._start_id:
                yield from self._begin()
            elif token == self._end_id:
                yield from self._end()
            elif self._call is not None:
                if len(self._text) <= LONGEST_CALL:  # beyond, only its end is of interest
                    self._text += self._call.push([token])
            elif text := self._words.push([token]):
                yield from self._said(text)

    def finish(self) -> Iterator[str | WrittenCall]:
        """The reply has ended: give what was held back."""
        if self._call is not None:
            self._call = None
            yield WrittenCall("", problem="the call was cut off")
        elif text := self._words.finish():
            yield from self._said(text)

    def _said(self, text: str) -> Iterator[str]:
        if self._form is CallForm.PAIRS or not self._is_called:
            yield text
        elif text.strip():
            self.is_over = True

    def _begin(self) -> Iterator[WrittenCall]:
        if self._call is not None:
            yield WrittenCall("", problem="a call stands inside a call")
        self._call, self._text, self._is_called = self._new_decoder(), "", True

    def _end(self) -> Iterator[WrittenCall]:
        if self._call is None:
            self._is_called = True
            yield WrittenCall("", problem="a call ended that had not begun")
            return
        text, self._call = self._text + self._call.finish(), None
        if len(text) > LONGEST_CALL:
            yield WrittenCall("", problem=f"the call is longer than {LONGEST_CALL} characters")
        else:
            yield read_call(text, self._form)


def _read_pairs(text: str) -> WrittenCall:
    name, *pairs = (part.strip() for part in text.split(_BETWEEN_PAIRS))
    arguments: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition(_IN_PAIR)
        if not key.strip() or not sign or key.strip() in arguments:
            return WrittenCall(name, problem=f"{pair!r} is no argument")
        arguments[key.strip()] = value.strip()
    problem = "" if name else "the call names no function"
    return WrittenCall(name, json.dumps(arguments, ensure_ascii=False), problem, is_plain=True)


def _as_json(function: FunctionSchema) -> str:
    name, description = (json.dumps(text, ensure_ascii=False) for text in (function.name, function.description))
    parameters = function.parameters_json or '{"type": "object", "properties": {}}'
    return f'{{"name": {name}, "description": {description}, "parameters": {parameters}}}'


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(number: str) -> float:
    """What is too large would be written again as Infinity, which is no JSON."""
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _distinct(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found
