"""What the core asks for. The shell carries effects out in the order given and answers with events.

effect          answered by
OpenUtterance   nothing: from now on the utterance's audio goes to the tokenizer
EndUtterance    nothing: no audio after `end_sample` belongs to it; its tokens are awaited by whoever needs them
DropUtterance   nothing: it was no speech, or nobody needs it any more
StartReply      ReplyTextMade and ReplyAudioMade, then exactly one of ReplyMade, ReplyFailed, ReplyStopped
CancelReply     ReplyStopped, once every room has been told
Transcribe      Transcribed
CommitTurn      TurnCommitted
SaveOpenTurn    nothing: what a resume on another replica needs to end this turn
SetTimer        TimeReached; setting it again replaces the moment
Emit, EndStream nothing
"""

from dataclasses import dataclass
from typing import TypeAlias

from services.orchestrator.conversation.events import ReplyId, Timer
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.conversation.record import Message, Origin, TurnRecord


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the client; `turn` is 0 where the output belongs to none."""

    turn: int
    epoch: int
    output: Output


@dataclass(frozen=True, slots=True)
class OpenUtterance:
    """The user speaks, from this sample on, pre-roll included. Utterances are numbered from 1, one at a time."""

    utterance: int
    first_sample: int


@dataclass(frozen=True, slots=True)
class EndUtterance:
    """The utterance ended before this sample."""

    utterance: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class DropUtterance:
    """Forget the utterance and its tokens."""

    utterance: int


@dataclass(frozen=True, slots=True)
class StartReply:
    """Work out a reply.

    Attributes:
        reply: under which the work reports.
        context: what the chat model reads, oldest first; empty where `words` is set.
        words: what is said word for word, without the chat model; empty for a reply of the model.
        options: in force for this reply.
    """

    reply: ReplyId
    context: tuple[Message, ...]
    words: str
    options: Options


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop every room's work for a reply."""

    reply: ReplyId


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Write down what was said in an utterance that has ended."""

    utterance: int


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """Keep a turn for good."""

    record: TurnRecord


@dataclass(frozen=True, slots=True)
class SaveOpenTurn:
    """Remember the turn under way: what another replica needs to end it if this one dies."""

    number: int
    epoch: int
    origin: Origin
    request_id: str
    user_text: str
    agent_text: str


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Tell when a moment has come; None takes the timer back."""

    timer: Timer
    at_s: float | None


@dataclass(frozen=True, slots=True)
class EndStream:
    """Every turn has ended and no other comes: close the stream with OK."""


Effect: TypeAlias = (
    Emit
    | OpenUtterance
    | EndUtterance
    | DropUtterance
    | StartReply
    | CancelReply
    | Transcribe
    | CommitTurn
    | SaveOpenTurn
    | SetTimer
    | EndStream
)
