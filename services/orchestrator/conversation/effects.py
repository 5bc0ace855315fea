"""What the core asks for. The shell carries effects out in the order given and answers with events.

effect          answered by
OpenUtterance   nothing: from now on the utterance's audio goes to the tokenizer
EndUtterance    nothing: no audio after `end_sample` belongs to it; its tokens are awaited by whoever needs them
DropUtterance   nothing: it was no speech, or nobody needs it any more
AskTurnModel    TurnJudged
StartReply      ReplyTextMade, ReplyAudioMade and ToolCallMade, then exactly one of ReplyMade, ReplyFailed, ReplyStopped
CommitReply     nothing: the reply that was prepared is the one that is spoken
ResumeReply     ReplyTakenUp; if it can go on, then as StartReply
CancelReply     ReplyStopped, once every room has been told
RunTool         ToolAnswered, unless it is cancelled
CancelTool      nothing: an answer that still comes has no effect
Transcribe      Transcribed
CommitTurn      TurnCommitted
SaveOpenTurn    nothing: what a resume on another replica needs to end this turn
SetTimer        TimeReached; setting it again replaces the moment
Emit, EndStream nothing
"""

from dataclasses import dataclass
from typing import TypeAlias

from services.orchestrator.conversation.events import ReplyId, Timer
from services.orchestrator.conversation.options import Options, Tool
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.conversation.record import Message, Origin, ReplyBasis, ToolCall, TurnRecord


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
class AskTurnModel:
    """Judge whether the user has finished, from the open utterance's audio before this sample."""

    utterance: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class StartReply:
    """Work out a reply, or the piece of it that is said while functions run or after they did.

    Attributes:
        reply: under which the work reports.
        context: what the chat model reads, oldest first; empty where `words` is set.
        words: what is said word for word, without the chat model; empty for a reply of the model.
        options: in force for this reply.
        seed: of everything random in the speech; None draws one.
        is_speculative: it is prepared ahead: it works on up to its first chunks of audio until `CommitReply` comes.
        first_sample: position at which its audio begins; what it reports counts on from here.
        first_character: position in the turn's text at which its text begins.
    """

    reply: ReplyId
    context: tuple[Message, ...]
    words: str
    options: Options
    seed: int | None = None
    is_speculative: bool = False
    first_sample: int = 0
    first_character: int = 0


@dataclass(frozen=True, slots=True)
class CommitReply:
    """A reply that was prepared is spoken now: what it reports from here on is for the client."""

    reply: ReplyId


@dataclass(frozen=True, slots=True)
class ResumeReply:
    """Go on with a reply that was stopped, from audio that is still there or is made again.

    Attributes:
        reply: under which the work reports from now on; positions go on counting as before.
        stopped: under which it reported before.
        first_sample: from which its audio is reported.
        text: that was reported of it; what is reported follows it.
        is_text_complete: no more text of it comes.
        context, words, options, seed: as `StartReply` had them.
        part_sample, part_character: position at which the stopped piece of the reply began, in its audio and its text.
    """

    reply: ReplyId
    stopped: ReplyId
    first_sample: int
    text: str
    is_text_complete: bool
    context: tuple[Message, ...]
    words: str
    options: Options
    seed: int | None
    part_sample: int = 0
    part_character: int = 0


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop every room's work for a reply.

    Attributes:
        may_resume: what was made of it is kept until its turn is committed, for `ResumeReply`.
    """

    reply: ReplyId
    may_resume: bool = False


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a function that the client does not run."""

    reply: ReplyId
    call: ToolCall
    tool: Tool


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Nobody waits for the answer to `RunTool` any more."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Write down what was said in an utterance.

    Attributes:
        utterance: which.
        end_sample: of an utterance that is still open, what was said before this sample; None is all of one that has
            ended.
    """

    utterance: int
    end_sample: int | None = None


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """Keep a turn for good."""

    record: TurnRecord


@dataclass(frozen=True, slots=True)
class SaveOpenTurn:
    """Remember the turn under way: what another replica needs to end it if this one dies, and to go on with its reply.

    Audio that follows in the same list of effects speaks no text that is not in the basis.
    """

    number: int
    epoch: int
    origin: Origin
    request_id: str
    user_text: str
    agent_text: str
    basis: ReplyBasis | None = None


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
    | AskTurnModel
    | StartReply
    | CommitReply
    | ResumeReply
    | CancelReply
    | RunTool
    | CancelTool
    | Transcribe
    | CommitTurn
    | SaveOpenTurn
    | SetTimer
    | EndStream
)
