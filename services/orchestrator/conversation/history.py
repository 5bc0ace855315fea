"""What the chat model reads: system prompt, history, and the turns so far, the user's newest part last.

It gives the whole history; whoever knows the model's tokens cuts it to the model's context. The agent's part of a turn
is what was heard of it. Speech stands as speech until its transcript is there.
"""

from collections.abc import Iterable
from typing import Protocol

from services.orchestrator.conversation.record import (
    Message,
    Origin,
    Role,
    ToolOutcome,
    ToolResult,
    UtteranceSpeech,
)
from services.orchestrator.conversation.state import Asked, Call, State, Turn


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


def messages(user: str | UtteranceSpeech, agent: str, calls: Iterable[Call] = ()) -> tuple[Message, ...]:
    """One turn, its calls of functions before what the agent said; a part without words is left out."""
    exchanged = (part for call in calls if call.outcome is not None for part in _exchange(call))
    parts = (Message(Role.USER, user), *exchanged, Message(Role.ASSISTANT, agent))
    return tuple(part for part in parts if part.content != "")


def continued(turn: Turn) -> tuple[Message, ...]:
    """What is read for the part of a reply that follows calls of functions: all of the turn so far."""
    read, start = list(turn.context), 0
    for call in turn.calls:
        if call.at_character > start:
            read.append(Message(Role.ASSISTANT, turn.text[start : call.at_character]))
            start = call.at_character
        read += _exchange(call)
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
    open_turns = (part for turn in state.turns for part in messages(_user_part(turn), turn.agent_text, turn.calls))
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


def _exchange(call: Call) -> tuple[Message, ...]:
    """A call and what the model is told of it; of one that was cancelled, nothing."""
    if call.outcome is ToolOutcome.CANCELLED:
        return ()
    result = ToolResult(call.call.call_id, call.text, call.outcome is not ToolOutcome.RETURNED)
    return Message(Role.ASSISTANT, call.call), Message(Role.TOOL, result)
