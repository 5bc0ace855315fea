"""What is kept of a turn, and what it took: the core's form of `Turn` and `TurnMetrics`."""

from dataclasses import dataclass
from enum import StrEnum

from services.orchestrator.conversation.options import ToolExecutor
from services.shared.errors import StepAudioError


class Role(StrEnum):
    """Who speaks in a message of the context."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech of the user that has ended: its number, and its samples at 16 kHz."""

    number: int
    first_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class UtteranceSpeech:
    """Speech of the user that stands in the context as its speech tokens; whoever reads it asks for the tokens.

    Attributes:
        utterance: which.
        end_sample: of an utterance that is still open, what was said before this sample: the tokenizer is asked with
            `peek`. None is all of an utterance that has ended.
    """

    utterance: int
    end_sample: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; its id is unique in the session, its arguments are a JSON object."""

    call_id: str
    name: str
    arguments_json: str


class ToolOutcome(StrEnum):
    """How a call ended."""

    RETURNED = "returned"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told of a call: what it gave, or why it failed."""

    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolExchange:
    """A call and what came of it.

    Attributes:
        call: what was called.
        outcome: how it ended.
        text: what the model was told, cut to what is kept; empty where the call was cancelled.
        executor: who ran it; None where it could not be run.
        duration_s: from the call to its end.
    """

    call: ToolCall
    outcome: ToolOutcome
    text: str = ""
    executor: ToolExecutor | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the context, for the chat model."""

    role: Role
    content: str | UtteranceSpeech | ToolCall | ToolResult


class Origin(StrEnum):
    """How the user's part of a turn came."""

    SPEECH = "speech"
    TEXT = "text"
    SAY = "say"


class Outcome(StrEnum):
    """How a turn ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class RoomName(StrEnum):
    """The rooms that work on a reply."""

    TOKENIZER = "tokenizer"
    LM = "lm"
    TTS = "tts"
    VOCODER = "vocoder"


class Degradation(StrEnum):
    """A way in which quality is lowered to keep the audio flowing."""

    SMALLER_FIRST_CHUNK = "smaller_first_chunk"
    FEWER_FLOW_STEPS = "fewer_flow_steps"
    NO_SPECULATION = "no_speculation"


@dataclass(frozen=True, slots=True)
class RoomWork:
    """The work of one room in one turn.

    Attributes:
        room: which.
        requests: how often it was asked.
        total_s: from asking to the end of the answer, all requests together.
        first_output_s: from the first request to its first output.
    """

    room: RoomName
    requests: int
    total_s: float
    first_output_s: float


@dataclass(frozen=True, slots=True)
class FirstAudioMarks:
    """When each stage of a reply had its first result, in monotonic seconds; they never fall.

    Attributes:
        asked_s: the pipeline took the reply up.
        tokens_s: the utterance's tokens were there; equal to `asked_s` for a turn in writing.
        clause_s: the first clause of text was there.
        speech_tokens_s: the first speech tokens that the vocoder was given were there.
        audio_s: the first samples were there.
    """

    asked_s: float
    tokens_s: float
    clause_s: float
    speech_tokens_s: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class ReplyWork:
    """What a reply took, however it ended.

    Attributes:
        rooms: the work of each room that had any.
        prompt_tokens: that the chat model read.
        text_tokens: that it generated.
        speech_tokens: that the speech model generated.
        degradations: how its quality was lowered.
    """

    rooms: tuple[RoomWork, ...] = ()
    prompt_tokens: int = 0
    text_tokens: int = 0
    speech_tokens: int = 0
    degradations: tuple[Degradation, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstAudioBreakdown:
    """Where the silence before the reply went, in seconds; the parts sum to the whole.

    Attributes:
        endpointing_s: waiting until the user's turn had surely ended.
        tokenizer_s: tokens of the utterance that were still missing.
        lm_s: the chat model up to the first clause.
        tts_s: the speech model up to the first chunk of speech tokens.
        vocoder_s: the vocoder up to the first samples.
        orchestrator_s: everything between the rooms.
    """

    endpointing_s: float
    tokenizer_s: float
    lm_s: float
    tts_s: float
    vocoder_s: float
    orchestrator_s: float

    @property
    def total_s(self) -> float:
        """The silence the caller heard."""
        return self.endpointing_s + self.tokenizer_s + self.lm_s + self.tts_s + self.vocoder_s + self.orchestrator_s


@dataclass(frozen=True, slots=True)
class SpeculationWork:
    """What speculation did in one turn.

    Attributes:
        started: replies that were prepared.
        committed: of those, the one that was spoken.
        discarded: of those, the ones thrown away.
        withheld: pauses at which none was prepared because none was allowed then.
        wasted_tokens: generated for replies that were thrown away.
        saved_ms: how much sooner the reply was heard than it would have been.
        given_up: one was withheld because the rooms had fallen behind.
    """

    started: int = 0
    committed: int = 0
    discarded: int = 0
    withheld: int = 0
    wasted_tokens: int = 0
    saved_ms: int = 0
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class ReplyBasis:
    """What a reply under way is taken up from on another replica.

    Attributes:
        text: of the reply, as far as it was made.
        is_text_complete: no more text comes.
        words: what is said word for word; empty for a reply of the model.
        seed: of everything random in the speech: with it the same text, voice and options sound the same.
        utterance: that the reply answers; whoever keeps the basis keeps its tokens too, until its words are known.
    """

    text: str
    is_text_complete: bool
    words: str
    seed: int | None
    utterance: Utterance | None


@dataclass(frozen=True, slots=True)
class TurnMetrics:
    """What one turn took; see `TurnMetrics` of metrics.proto."""

    first_audio: FirstAudioBreakdown | None = None
    work: ReplyWork = ReplyWork()
    user_audio_ms: int = 0
    reply_audio_ms: int = 0
    heard_audio_ms: int = 0
    playout_underruns: int = 0
    speculation: SpeculationWork = SpeculationWork()

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """How quality was lowered in this turn."""
        return self.work.degradations + (Degradation.NO_SPECULATION,) * self.speculation.given_up


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as it is kept: text only.

    Attributes:
        number: from 1 without gaps.
        origin: how the user's part came.
        user_text: what the user said or wrote; empty where no words were understood.
        agent_text: what the agent answered, as far as it was heard.
        outcome: how it ended.
        started_s, ended_s: monotonic; the store keeps wall time.
        metrics: what it took.
        error: what went wrong; with `FAILED` only.
        request_id: of the client's `TextTurn` or `Say`.
        tool_exchanges: calls of functions, in the order in which they were asked for.
    """

    number: int
    origin: Origin
    user_text: str
    agent_text: str
    outcome: Outcome
    started_s: float
    ended_s: float
    metrics: TurnMetrics = TurnMetrics()
    error: StepAudioError | None = None
    request_id: str = ""
    tool_exchanges: tuple[ToolExchange, ...] = ()
