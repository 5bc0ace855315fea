"""The two coupled machines of a conversation, as data: what the user does, and what the agent does.

Every change of either state is a row here; a move without a row in the present state has no effect. What a row asks
for is done by the module that makes the move: endpointing.py moves the user, replies.py and interruption.py the agent.
The user's part moves the agent's: the end of a turn has it start, at once if it is idle or has prepared the reply, or
else when the reply under way has been heard; a pause has it prepare one; speech into a reply stops it.

Source: the states that the Step-Audio report names Silence, UserSpeaking, UserPaused and BotReplying.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar


class UserState(StrEnum):
    """What the user does."""

    SILENCE = "Silence"
    SPEAKING = "UserSpeaking"
    PAUSED = "UserPaused"


class UserMove(StrEnum):
    """What changes it."""

    SPEECH = "speech is heard"
    PAUSE = "silence of pause_ms"
    TURN_END = "the turn ends"
    DROP = "the speech is dropped"


class AgentState(StrEnum):
    """What the agent does."""

    IDLE = "Idle"
    SPECULATING = "Speculating"
    REPLYING = "Replying"
    TOOL_RUNNING = "ToolRunning"


class AgentMove(StrEnum):
    """What changes it."""

    PREPARE = "the user pauses"
    DISCARD = "the user goes on"
    START = "a turn is answered"
    CALL = "the model calls functions"
    ANSWERED = "every call is over"
    HEARD = "the reply was heard"
    STOP = "the reply is stopped"
    RESUME = "the reply goes on"


S = TypeVar("S", UserState, AgentState)
M = TypeVar("M", UserMove, AgentMove)


@dataclass(frozen=True, slots=True)
class Row(Generic[S, M]):
    """One transition, and in words what it asks for."""

    state: S
    move: M
    after: S
    asks: str


USER: Final[tuple[Row[UserState, UserMove], ...]] = (
    Row(UserState.SILENCE, UserMove.SPEECH, UserState.SPEAKING, "open the utterance; `speech_started`"),
    Row(UserState.SPEAKING, UserMove.PAUSE, UserState.PAUSED, "`speech_stopped`"),
    Row(UserState.SPEAKING, UserMove.TURN_END, UserState.SILENCE, "`speech_stopped`; end the utterance; agent: start"),
    Row(UserState.SPEAKING, UserMove.DROP, UserState.SILENCE, "`speech_stopped`; drop the utterance"),
    Row(UserState.PAUSED, UserMove.SPEECH, UserState.SPEAKING, "`speech_started`, in the same utterance"),
    Row(UserState.PAUSED, UserMove.TURN_END, UserState.SILENCE, "end the utterance; agent: start"),
    Row(UserState.PAUSED, UserMove.DROP, UserState.SILENCE, "drop the utterance"),
)

AGENT: Final[tuple[Row[AgentState, AgentMove], ...]] = (
    Row(AgentState.IDLE, AgentMove.START, AgentState.REPLYING, "start the reply; `reply_started`"),
    Row(AgentState.IDLE, AgentMove.PREPARE, AgentState.SPECULATING, "start a reply that nobody hears of"),
    Row(AgentState.SPECULATING, AgentMove.DISCARD, AgentState.IDLE, "cancel the prepared reply's work"),
    Row(AgentState.SPECULATING, AgentMove.START, AgentState.REPLYING, "`reply_started`; send what was prepared"),
    Row(AgentState.REPLYING, AgentMove.CALL, AgentState.TOOL_RUNNING, "`tool_call_requested`; run the functions"),
    Row(AgentState.REPLYING, AgentMove.HEARD, AgentState.IDLE, "end the turn; start the next one that waits"),
    Row(AgentState.REPLYING, AgentMove.STOP, AgentState.IDLE, "cancel the reply's work; learn what was heard"),
    Row(AgentState.TOOL_RUNNING, AgentMove.ANSWERED, AgentState.REPLYING, "`tool_call_ended`; go on with the results"),
    Row(AgentState.TOOL_RUNNING, AgentMove.STOP, AgentState.IDLE, "as in Replying; cancel the calls"),
    Row(AgentState.IDLE, AgentMove.RESUME, AgentState.REPLYING, "take the stopped reply up; `reply_resumed`"),
)

_USER: Final = {(row.state, row.move): row.after for row in USER}
_AGENT: Final = {(row.state, row.move): row.after for row in AGENT}


def user_after(state: UserState, move: UserMove) -> UserState | None:
    """Where a move leads; None if there is no such row."""
    return _USER.get((state, move))


def agent_after(state: AgentState, move: AgentMove) -> AgentState | None:
    """Where a move leads; None if there is no such row."""
    return _AGENT.get((state, move))


def as_markdown() -> str:
    """Draw both tables, for the documents."""
    return "\n\n".join([_drawn("user", USER), _drawn("agent", AGENT)]) + "\n"


def as_diagrams() -> str:
    """Draw both machines as Mermaid diagrams, for the documents."""
    return "\n\n".join([_diagram(UserState.SILENCE, USER), _diagram(AgentState.IDLE, AGENT)]) + "\n"


def _drawn(who: str, rows: tuple[Row[S, M], ...]) -> str:
    lines = [f"| {who} | when | becomes | and |", "|---|---|---|---|"]
    lines += [f"| {row.state} | {row.move} | {row.after} | {row.asks} |" for row in rows]
    return "\n".join(lines)


def _diagram(first: str, rows: tuple[Row[S, M], ...]) -> str:
    arrows = "".join(f"    {row.state} --> {row.after}: {row.move}\n" for row in rows)
    return f"```mermaid\nstateDiagram-v2\n    direction LR\n    [*] --> {first}\n{arrows}```"
