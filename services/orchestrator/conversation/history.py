"""What the chat model reads: system prompt, history, and the turns so far, the user's newest part last.

It gives the whole history; whoever knows the model's tokens cuts it to the model's context. The agent's part of a turn
is what was heard of it. Speech stands as speech until its transcript is there.
"""

from collections.abc import Iterable
from typing import Protocol

from services.orchestrator.conversation.record import Message, Origin, Role, UtteranceSpeech
from services.orchestrator.conversation.state import Asked, State, Turn


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


def messages(user: str | UtteranceSpeech, agent: str) -> tuple[Message, ...]:
    """One turn; a part without words is left out."""
    parts = (Message(Role.USER, user), Message(Role.ASSISTANT, agent))
    return tuple(part for part in parts if part.content != "")


def context(state: State, asked: Asked) -> tuple[Message, ...]:
    """What is read for the reply to `asked`, which is the newest turn."""
    prompt = state.options.system_prompt
    system = (Message(Role.SYSTEM, prompt),) if prompt else ()
    open_turns = (message for turn in state.turns for message in messages(_user_part(turn), turn.agent_text))
    now = asked.text if asked.utterance is None else UtteranceSpeech(asked.utterance.number)
    return (*system, *state.history, *open_turns, Message(Role.USER, now))


def speech_of(read: Iterable[Message]) -> tuple[int, ...]:
    """The speech in a context."""
    return tuple(message.content.utterance for message in read if isinstance(message.content, UtteranceSpeech))


def _user_part(turn: Turn) -> str | UtteranceSpeech:
    if turn.user_text is None and turn.asked.utterance is not None:
        return UtteranceSpeech(turn.asked.utterance.number)
    return turn.user_text or ""
