"""What the client is told, in the core's own units: the events of events.proto without sequence numbers and formats."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from services.orchestrator.conversation.events import GoAwayReason
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Origin, ToolCall, ToolOutcome, TurnRecord
from services.shared.errors import StepAudioError


class InterruptionReason(StrEnum):
    """Why a reply was stopped."""

    SPEECH = "speech"
    CLIENT = "client"
    CLIENT_TURN = "client_turn"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user began to speak at this sample."""

    first_sample: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The user fell silent after this sample."""

    end_sample: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the user said between two samples."""

    text: str
    is_final: bool
    first_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The user's turn has ended and the agent answers."""

    origin: Origin
    request_id: str


@dataclass(frozen=True, slots=True)
class ReplyText:
    """The next piece of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """The next samples of the reply; `samples` is what `ReplyAudioMade` brought."""

    first_sample: int
    end_sample: int
    spoken_characters: int
    samples: object


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The reply has been sent to its end."""

    total_samples: int
    text: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The reply was stopped: the player is to be emptied."""

    reason: InterruptionReason
    heard_samples: int


@dataclass(frozen=True, slots=True)
class ReplyResumed:
    """The stopped reply goes on from this sample."""

    first_sample: int
    text: str
    origin: Origin
    request_id: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over and kept."""

    record: TurnRecord
    heard_samples: int


@dataclass(frozen=True, slots=True)
class ToolCallRequested:
    """The model calls a function; the agent keeps speaking meanwhile."""

    call: ToolCall
    client_runs: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class ToolCallEnded:
    """A call of a function is over."""

    call_id: str
    outcome: ToolOutcome


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The options now in force."""

    options: Options


@dataclass(frozen=True, slots=True)
class InputReleased:
    """The user's audio before this sample is dealt with."""

    before_sample: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server will close this stream soon."""

    reason: GoAwayReason
    time_left_ms: int
    resumable: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of the client had no effect, and the conversation goes on."""

    error: StepAudioError


Output: TypeAlias = (
    SpeechStarted
    | SpeechStopped
    | Transcript
    | ReplyStarted
    | ReplyText
    | ReplyAudio
    | ReplyEnded
    | Interrupted
    | ReplyResumed
    | TurnEnded
    | ToolCallRequested
    | ToolCallEnded
    | SessionUpdated
    | InputReleased
    | GoAway
    | Refused
)
