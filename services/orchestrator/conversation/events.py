"""What can happen to a conversation. Every event says when, in monotonic seconds, and events come in that order.

    from the client   VoiceFrame EndOfTurn InputEnded TextTurn Say Interrupt Acknowledged OptionsChanged
                      ToolAnswered
    from the stream   Detached Resumed ClosingSoon Closed
    from the work     ReplyTextMade ReplyAudioMade ToolCallMade, then one of ReplyMade ReplyFailed ReplyStopped; before
                      them ReplyTakenUp, of a reply that goes on; Transcribed TurnJudged ToolAnswered TurnCommitted
                      TimeReached
    from the tenant   SpeculationAllowed

Work reports under the id of its reply. What comes late, from a reply that was cancelled meanwhile, is legal and has no
effect: the core compares ids.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import FirstAudioMarks, ReplyWork, ToolCall
from services.shared.errors import StepAudioError


class ReplyId(NamedTuple):
    """A piece of work on a reply: its turn, the epoch in which it was begun, and which piece of the two it is.

    There are several pieces where a reply was prepared at more than one pause, or goes on after calls of functions.
    """

    turn: int
    epoch: int
    part: int = 0


class ReplyTiming(StrEnum):
    """When a turn begins that the client asks for during a reply."""

    INTERRUPT = "interrupt"
    AFTER_REPLY = "after_reply"


class GoAwayReason(StrEnum):
    """Why a server closes a stream."""

    DRAINING = "draining"
    SESSION_TOO_LONG = "session_too_long"


class Timer(StrEnum):
    """What the core waits for; each is set to one moment at most."""

    PLAYOUT = "playout"
    """The reply under way has been heard by the server's own clock."""
    ACKNOWLEDGEMENT = "acknowledgement"
    """An interrupted reply's last acknowledgement is overdue."""
    FALSE_INTERRUPTION = "false_interruption"
    """If no word was said until now, the interrupted reply goes on."""
    TOOL = "tool"
    """A call of a function has taken as long as it may."""
    NOTICE = "notice"
    """Nothing has been heard for a while because a function runs."""


@dataclass(frozen=True, slots=True)
class Playback:
    """What the client has played of a reply: the position of the next sample to be heard, and how often it ran dry."""

    turn: int
    played_samples: int
    underruns: int = 0


@dataclass(frozen=True, slots=True)
class VoiceFrame:
    """How likely the newest frame of the user's audio is speech; frames follow one another without gaps."""

    at_s: float
    end_sample: int
    probability: float


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """The client ends the user's turn at the sample it has sent last."""

    at_s: float
    end_sample: int


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The user will say nothing more after this sample."""

    at_s: float
    end_sample: int


@dataclass(frozen=True, slots=True)
class TextTurn:
    """The user's turn in writing."""

    at_s: float
    request_id: str
    text: str
    timing: ReplyTiming = ReplyTiming.INTERRUPT


@dataclass(frozen=True, slots=True)
class Say:
    """The client has the agent say something, word for word; a greeting has an empty request id."""

    at_s: float
    request_id: str
    text: str
    timing: ReplyTiming = ReplyTiming.INTERRUPT


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The client stops the reply under way."""

    at_s: float
    playback: Playback | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The client says how much of a reply was heard."""

    at_s: float
    playback: Playback


@dataclass(frozen=True, slots=True)
class OptionsChanged:
    """The options now in force, merged and checked."""

    at_s: float
    options: Options


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """What came of a call of a function.

    Attributes:
        call_id: of the call.
        text: what it gave, or why it failed, for the model.
        is_error: it failed.
        from_client: the client says so, of a function that it runs.
    """

    at_s: float
    call_id: str
    text: str
    is_error: bool = False
    from_client: bool = False


@dataclass(frozen=True, slots=True)
class Detached:
    """The stream was lost; the client may come back."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """The client has come back and says what it heard of the last reply."""

    at_s: float
    playback: Playback | None = None


@dataclass(frozen=True, slots=True)
class ClosingSoon:
    """The stream will be closed."""

    at_s: float
    reason: GoAwayReason
    time_left_ms: int
    resumable: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more comes from the client and nothing can be told to it; what is open ends now."""

    at_s: float


@dataclass(frozen=True, slots=True)
class ReplyTextMade:
    """The next piece of a reply's text, style tags left out; never empty, never a part of a character."""

    at_s: float
    reply: ReplyId
    text: str


@dataclass(frozen=True, slots=True)
class ReplyAudioMade:
    """The next samples of a reply.

    Attributes:
        first_sample: position of the first one; it is where the samples before ended.
        end_sample: position after the last one.
        spoken_characters: of the reply's text that are spoken when these samples end.
        samples: the audio itself, which the core passes on and never looks into.
        marks: with the first samples of a reply.
    """

    at_s: float
    reply: ReplyId
    first_sample: int
    end_sample: int
    spoken_characters: int
    samples: object
    marks: FirstAudioMarks | None = None


@dataclass(frozen=True, slots=True)
class ToolCallMade:
    """A reply calls a function; text that follows is spoken while the function runs.

    Attributes:
        call: with an id that no other call of the session has.
        problem: what is wrong with the call, for the model; such a call is not run.
    """

    at_s: float
    reply: ReplyId
    call: ToolCall
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ReplyTakenUp:
    """The answer to `ResumeReply`, before anything else of that reply.

    Attributes:
        can_go_on: text and audio follow from where they were asked for; if not, nothing follows at all.
        spoken_characters: of the reply's text that are spoken before its first sample.
    """

    at_s: float
    reply: ReplyId
    can_go_on: bool
    spoken_characters: int = 0


@dataclass(frozen=True, slots=True)
class ReplyMade:
    """A reply is complete: all its text and audio have been reported."""

    at_s: float
    reply: ReplyId
    work: ReplyWork


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """A reply cannot be completed; what was reported of it stays."""

    at_s: float
    reply: ReplyId
    error: StepAudioError
    work: ReplyWork


@dataclass(frozen=True, slots=True)
class ReplyStopped:
    """A reply that was cancelled has let go of every room."""

    at_s: float
    reply: ReplyId
    work: ReplyWork


@dataclass(frozen=True, slots=True)
class Transcribed:
    """What was said in an utterance; an empty text is no words, or no transcript could be made.

    Attributes:
        is_final: it is of the whole utterance, which has ended.
        end_sample: it is of what was said before this sample; 0 with a final one.
    """

    at_s: float
    utterance: int
    text: str
    is_final: bool
    end_sample: int = 0


@dataclass(frozen=True, slots=True)
class TurnJudged:
    """How likely it is that the user has finished, from what was heard before a sample.

    A shell that cannot tell says 1: then silence alone decides.
    """

    at_s: float
    utterance: int
    end_sample: int
    probability: float


@dataclass(frozen=True, slots=True)
class SpeculationAllowed:
    """Whether replies may be prepared from now on: the tenant's budget, and the slack of the rooms.

    Attributes:
        is_allowed: they may.
        is_given_up: they may not because the rooms have fallen behind.
    """

    at_s: float
    is_allowed: bool
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The store has the turn."""

    at_s: float
    turn: int


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The moment that `SetTimer` asked for."""

    at_s: float
    timer: Timer


Event: TypeAlias = (
    VoiceFrame
    | EndOfTurn
    | InputEnded
    | TextTurn
    | Say
    | Interrupt
    | Acknowledged
    | OptionsChanged
    | ToolAnswered
    | Detached
    | Resumed
    | ClosingSoon
    | Closed
    | ReplyTextMade
    | ReplyAudioMade
    | ToolCallMade
    | ReplyTakenUp
    | ReplyMade
    | ReplyFailed
    | ReplyStopped
    | Transcribed
    | TurnJudged
    | SpeculationAllowed
    | TurnCommitted
    | TimeReached
)
