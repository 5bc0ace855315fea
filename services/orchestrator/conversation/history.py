"""What the chat model reads: system prompt, history, and the turns so far, the user's newest part last.

It gives the whole history; whoever knows the model's tokens cuts it to the model's context. The agent's part of a turn
is what was heard of it. Speech stands as speech until its transcript is there. What functions gave is read whole in the
turn that called them; later turns read, and the store keeps, the first `KEPT_RESULT_CHARACTERS` of each.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final, Protocol

from services.orchestrator.conversation.record import (
    Message,
    Origin,
    Role,
    ToolCall,
    ToolExchange,
    ToolOutcome,
    ToolResult,
    UtteranceSpeech,
)
from services.orchestrator.conversation.state import Asked, Call, State, Turn

KEPT_RESULT_CHARACTERS: Final = 4096


class PastTurn(Protocol):
    """A turn as it was kept: a `TurnRecord`, or what a store gives back."""

    @property
    def number(self) -> int:
        """From 1 without gaps."""

    @property
    def origin(self) -> Origin:
        """How the user's part came."""

    @property
    def user_text(self) -> str:
        """What the user said or wrote."""

    @property
    def agent_text(self) -> str:
        """What was heard of the answer."""

    @property
    def request_id(self) -> str:
        """Of the client's message; empty for speech."""


class EndedTurn(PastTurn, Protocol):
    """A turn that is over."""

    @property
    def tool_exchanges(self) -> tuple[ToolExchange, ...]:
        """Its calls of functions."""


def messages(user: str | UtteranceSpeech, agent: str, exchanges: Iterable[ToolExchange] = ()) -> tuple[Message, ...]:
    """One turn, its calls of functions before what the agent said; a part without words is left out."""
    exchanged = (part for done in exchanges for part in _exchange(done.call, done.outcome, done.text))
    parts = (Message(Role.USER, user), *exchanged, Message(Role.ASSISTANT, agent))
    return tuple(part for part in parts if part.content != "")


def exchanges(calls: Iterable[Call]) -> tuple[ToolExchange, ...]:
    """Calls as they are kept; one that is still waited for counts as cancelled."""
    return tuple(
        ToolExchange(
            call.call,
            call.outcome or ToolOutcome.CANCELLED,
            shortened(call.text, KEPT_RESULT_CHARACTERS),
            None if call.tool is None else call.tool.executor,
            max(call.ended_s - call.asked_s, 0.0),
        )
        for call in calls
    )


def shortened(text: str, characters: int) -> str:
    """A text of at most so many characters, and a note for whoever reads it where more was there."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]} [cut here: {len(text)} characters in all]"


def continued(turn: Turn) -> tuple[Message, ...]:
    """What is read for the part of a reply that follows calls of functions: all of the turn so far.

    Text and calls stand as they were said, then what the calls gave; then the next part, and so on.
    """
    read, start = list(turn.context), 0
    for end, group in groupby(turn.calls, lambda call: call.read_character):
        calls, results = list(group), list[Message]()
        for call in calls:
            read += _said(turn.text[start : call.at_character])
            start = max(start, call.at_character)
            made = _exchange(call.call, call.outcome, call.text)
            read += made[:1]
            results += made[1:]
        until = len(turn.text) if end is None else end
        read += _said(turn.text[start:until])
        start = until
        read += results
    return tuple(read)


def context(state: State, asked: Asked, *, is_open: bool = False) -> tuple[Message, ...]:
    """What is read for the reply to `asked`, which is the newest turn.

    Args:
        state: everything before it.
        asked: the user's part.
        is_open: its utterance has not ended, and is read up to its present end.
    """
    prompt = state.options.system_prompt
    system = (Message(Role.SYSTEM, prompt),) if prompt else ()
    open_turns = (
        part
        for turn in state.turns
        for part in messages(
            _user_part(turn), turn.agent_text, exchanges(call for call in turn.calls if call.outcome is not None)
        )
    )
    now: str | UtteranceSpeech = asked.text
    if asked.utterance is not None:
        now = UtteranceSpeech(asked.utterance.number, asked.utterance.end_sample if is_open else None)
    return (*system, *state.history, *open_turns, Message(Role.USER, now))


def speech_of(read: Iterable[Message]) -> tuple[int, ...]:
    """The speech in a context."""
    return tuple(message.content.utterance for message in read if isinstance(message.content, UtteranceSpeech))


def _user_part(turn: Turn) -> str | UtteranceSpeech:
    if turn.user_text is None and turn.asked.utterance is not None:
        return UtteranceSpeech(turn.asked.utterance.number)
    return turn.user_text or ""


def _said(text: str) -> list[Message]:
    return [Message(Role.ASSISTANT, words)] if (words := text.strip()) else []


def _exchange(call: ToolCall, outcome: ToolOutcome | None, text: str) -> tuple[Message, ...]:
    """A call and what the model is told of it; of one that was cancelled, nothing."""
    if outcome is ToolOutcome.CANCELLED:
        return ()
    result = ToolResult(call.call_id, text, outcome is not ToolOutcome.RETURNED)
    return Message(Role.ASSISTANT, call), Message(Role.TOOL, result)
