"""The rooms as the orchestrator needs them: words and samples pass, ids and tensors do not.

Every call carries whose work it is. Cancelling the task that awaits, or closing a stream, reaches the room's engine.
Samples and features are arrays that this module never looks into.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from services.orchestrator.conversation.options import GenerationOptions, Tool
from services.orchestrator.conversation.record import Role, ToolCall, ToolResult

Samples: TypeAlias = Any  # float32 [N], -1..1: an array, and arrays are not this module's business
Features: TypeAlias = Any  # a float32 array that passes from one room to another


@dataclass(frozen=True, slots=True)
class Work:
    """Whose work a request is.

    Attributes:
        session: id of the conversation; empty for work that belongs to none.
        turn: number of the turn in it.
        epoch: rooms drop work of an older epoch of the session.
        traceparent: W3C trace context of the turn; empty where nothing is traced.
        slack_ms: how long its listener can wait for it: of the work that waits, what is due first is done first.
    """

    session: str = ""
    turn: int = 0
    epoch: int = 0
    traceparent: str = ""
    slack_ms: int = 0


@dataclass(frozen=True, slots=True)
class Haste:
    """How soon one push of a speech stream is needed, and what may be saved on it.

    Attributes:
        slack_ms: as in `Work`, of this push.
        flow_steps: from noise to audio, at most; 0 is as many as the room takes by itself.
        first_hop_ms: audio that the stream's first samples wait for; 0 is what the room waits for by itself.
    """

    slack_ms: int = 0
    flow_steps: int = 0
    first_hop_ms: int = 0


NO_HASTE: Final = Haste()


@dataclass(frozen=True, slots=True)
class SpeechTokens:
    """Speech in a message: codec values 0..5119, whole groups of five."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as the chat model reads it."""

    role: Role
    content: str | SpeechTokens | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call as the model wrote it.

    Attributes:
        name: of the function; empty where none could be read.
        arguments_json: a JSON object.
        problem: what is wrong with the call's form, for the model; empty where nothing is.
        is_plain: the arguments are words, and the function's schema says what they stand for.
    """

    name: str
    arguments_json: str
    problem: str = ""
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a reply's text.

    Attributes:
        text: whole characters, perhaps none (only with `tokens` or a call).
        tokens: that the model generated for it.
        finish_reason: "stop" or "length" with the last piece, else empty.
        call: of a function, behind the text.
    """

    text: str
    tokens: int
    finish_reason: str = ""
    call: FunctionCall | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVoice:
    """A voice, ready for the speech model and the vocoder.

    Attributes:
        voice_id: its id.
        speaker: the name that the speech model knows it by; empty for a clone.
        transcript: what its clip says.
        tokens: the clip's codec values.
        mel: of the clip, [T, 80].
        embedding: of the clip, [192].
        sings: it raps or hums, through the vocoder for music.
    """

    voice_id: str
    speaker: str
    transcript: str
    tokens: tuple[int, ...]
    mel: Features
    embedding: Features
    sings: bool = False


class Utterance(Protocol):
    """Speech that is tokenized while it is spoken. Calls come one at a time."""

    async def push(self, samples: Samples) -> None:
        """Hear the next samples at 16 kHz.

        Raises:
            RoomUnavailableError: the tokenizer is gone. A later call tries again from the utterance's first sample,
                which the adapter keeps, so the caller may go on.
        """

    async def peek(self) -> tuple[int, ...]:
        """Give the tokens of all that was heard so far, as if it ended here; the utterance goes on.

        Raises:
            RoomUnavailableError, DeadlineExceededError: the tokenizer is gone, also after another try; a later call
                tries again.
        """

    async def finish(self) -> tuple[int, ...]:
        """End the utterance and give all its tokens; none if it is shorter than one group.

        Raises:
            RoomUnavailableError, DeadlineExceededError: the tokenizer is gone, also after another try.
        """

    async def abandon(self) -> None:
        """Let go of the utterance; it never fails."""


class Tokenizer(Protocol):
    """The tokenizer room."""

    def listen(self, work: Work) -> Utterance:
        """Begin an utterance; nothing is sent yet."""


class ChatModel(Protocol):
    """The lm room."""

    @property
    def context_tokens(self) -> int:
        """Longest prompt and reply together."""

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Tokens of the prompt that these messages make, with these functions to call."""

    def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """Give the assistant's next turn, as it is generated; closing it cancels.

        Where it has `begun` already, what follows that text is given, perhaps nothing. It may call functions; those
        that are not offered too, so whoever reads it looks.

        Raises:
            PromptTooLongError: prompt and one token exceed the context.
            RoomUnavailableError, DeadlineExceededError, OverloadedError, GenerationError: as they say.
        """

    async def transcribe(self, tokens: Sequence[int], work: Work) -> str:
        """Write down what was said: codec values to words, none if nothing was understood. Raises as `reply`."""


class SpeechModel(Protocol):
    """The tts room."""

    def speak(
        self, clause: str, voice: PreparedVoice, *, seed: int, work: Work
    ) -> AsyncGenerator[tuple[int, ...], None]:
        """Speak one clause, its style tags in front: whole groups of codec values as they are generated.

        Raises:
            NothingToSpeakError: the clause has no speakable character.
            GenerationError: what came is no speech; another seed may do better.
            RoomUnavailableError, DeadlineExceededError, OverloadedError: as they say.
        """


class SpeechStream(Protocol):
    """One stream of speech tokens to samples. Calls come one at a time."""

    async def push(self, tokens: Sequence[int], *, last: bool, haste: Haste = NO_HASTE) -> Samples:
        """Voice the next tokens.

        Args:
            tokens: codec values, perhaps none with `last`.
            last: no tokens follow; everything that is left comes out.
            haste: how soon the samples are needed.

        Returns:
            float32 [N] at `Vocoder.sample_rate_hz`, perhaps empty while tokens gather.

        Raises:
            RoomUnavailableError, DeadlineExceededError: also after another try; the stream may be pushed again.
        """


class Vocoder(Protocol):
    """The vocoder room."""

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples it makes."""

    def open(self, voice: PreparedVoice, *, seed: int, work: Work) -> SpeechStream:
        """Begin a stream; nothing is sent yet. The same tokens, voice and seed give the same samples.

        A push for a voice that sings raises MissingFileError where the checkpoint has no vocoder for music.
        """


class VoiceMaker(Protocol):
    """Makes voices from clips, with the tokenizer and the speaker encoder."""

    async def prepare(
        self, voice_id: str, *, speaker: str, transcript: str, samples: Samples, sample_rate_hz: int
    ) -> PreparedVoice:
        """Listen to a clip.

        Raises:
            EmptyAudioError: there is too little speech in it.
            RoomUnavailableError, DeadlineExceededError: a room is gone.
        """


class BuiltInVoices(Protocol):
    """The voices that come with the checkpoint; each is prepared when somebody first speaks with it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their ids, in the checkpoint's order."""

    @property
    def default_name(self) -> str:
        """The one that speaks where nobody chose. Raises VoiceNotFoundError if there is none."""

    async def get(self, voice_id: str) -> PreparedVoice:
        """Give a voice; callers who ask at the same time share the work.

        Raises:
            VoiceNotFoundError: it is none of them.
            RoomUnavailableError, DeadlineExceededError: a room is gone; the next call tries again.
        """


@dataclass(frozen=True, slots=True)
class Rooms:
    """All of them, and the voices that need no making."""

    tokenizer: Tokenizer
    chat: ChatModel
    speech: SpeechModel
    vocoder: Vocoder
    voices: VoiceMaker
    built_in: BuiltInVoices
