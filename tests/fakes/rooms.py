"""All rooms without a server or a network: scripted timing, scripted faults, the same output for the same input.

    rooms = FakeRooms(sleep=clock.sleep)                  in virtual time; without `sleep`, nothing ever waits
    rooms.chat.answers = ["Hello. How are you?"]          the next replies, in turn
    rooms.chat.faults.append(Fault(error, after=2))       the next call: two outputs, then the error
    rooms.vocoder.faults.append(Fault(None))              … or never an output again
    rooms.live                                            what has not ended, by room: {} when nothing leaks

    benchmarks: FakeRooms(PACED, sleep=asyncio.sleep).rooms is a paced set whose delays are those of small models.

What comes out is made up and says nothing about the real rooms, but keeps their rules: whole groups of five tokens,
any cut of the input gives the same output, the same seed gives the same speech, every await can be cancelled.
"""

import asyncio
import math
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.orchestrator.conversation.options import GenerationOptions, Tool
from services.orchestrator.conversation.record import ToolCall, ToolResult
from services.orchestrator.ports.rooms import (
    NO_HASTE,
    ChatMessage,
    FunctionCall,
    Haste,
    PreparedVoice,
    Rooms,
    SpeechTokens,
    TextPiece,
    Work,
)
from services.shared.codec import (
    CODEC_SIZE,
    GROUP_LINGUISTIC,
    GROUP_SEMANTIC,
    GROUP_TOKENS,
    LINGUISTIC_SIZE,
    SEMANTIC_OFFSET,
    SEMANTIC_SIZE,
    TOKEN_RATE_HZ,
)
from services.shared.errors import (
    EmptyReplyError,
    NothingToSpeakError,
    PromptTooLongError,
    StepAudioError,
    VoiceNotFoundError,
)
from services.shared.prompt.chat import CallForm, read_call
from services.shared.prompt.chat.call_marks import CALL_END, CALL_START
from services.shared.prompt.speech import speakable
from services.shared.voices import checked_clip

Sleep: TypeAlias = Callable[[float], Awaitable[None]]

INPUT_RATE_HZ: Final = 16_000
OUTPUT_RATE_HZ: Final = 22_050
GROUP_SAMPLES: Final = 1920
"""120 ms at 16 kHz: one group."""
LETTERS_PER_GROUP: Final = 2
"""Speech of 15 letters a second has about so many in 120 ms."""
TEXT_TOKEN_LETTERS: Final = 4
MEL_CHANNELS: Final = 80
EMBEDDING_SIZE: Final = 192


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a room takes: before the first output of a call, and before each of the others."""

    first_s: float = 0.0
    each_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Paces:
    """The pace of every room.

    Attributes:
        hear: one push of an utterance.
        tokens: the end of an utterance.
        reply: pieces of text.
        transcribe: a whole transcript.
        speech: groups of speech tokens.
        wave: one push of a stream that gives samples.
        voice: one clip.
    """

    hear: Pace = Pace()
    tokens: Pace = Pace()
    reply: Pace = Pace()
    transcribe: Pace = Pace()
    speech: Pace = Pace()
    wave: Pace = Pace()
    voice: Pace = Pace()


INSTANT: Final = Paces()
PACED: Final = Paces(
    hear=Pace(0.001),
    tokens=Pace(0.02),
    reply=Pace(0.03, 0.015),
    transcribe=Pace(0.1),
    speech=Pace(0.03, 0.02),
    wave=Pace(0.03, 0.03),
    voice=Pace(0.2),
)
"""Delays as small models on an idle machine have them; speech is made about five times faster than it is spoken."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        error: what it raises; None: it waits for ever.
        after: outputs that come before.
    """

    error: StepAudioError | None
    after: int = 0


class FakeRoom:
    """What all fake rooms have.

    Attributes:
        faults: of the next calls, in turn; a call without one goes well.
        works: whose work the calls were, in order.
        live: calls and utterances that have begun and not ended.
        begun: all that ever began.
    """

    def __init__(self, sleep: Sleep | None) -> None:
        self.faults: deque[Fault | None] = deque()
        self.works: list[Work] = []
        self.live = 0
        self.begun = 0
        self._sleep = sleep

    def next_fault(self) -> Fault | None:
        """The fault of the call that begins."""
        return self.faults.popleft() if self.faults else None

    def enter(self, work: Work) -> None:
        """Something begins."""
        self.works.append(work)
        self.live += 1
        self.begun += 1

    def leave(self) -> None:
        """It has ended."""
        self.live -= 1

    async def take(self, seconds: float) -> None:
        """Let the room work for a while; others have their turn in any case."""
        await (self._sleep(seconds) if self._sleep and seconds > 0 else asyncio.sleep(0))

    async def output(self, place: int, pace: Pace, fault: Fault | None) -> None:
        """Wait for the output of this place, or meet the fault."""
        await self.take(pace.each_s if place else pace.first_s)
        if fault is not None and place >= fault.after:
            await meet(fault)

    @contextmanager
    def one_call(self, work: Work) -> Iterator[None]:
        """Count a call while it runs."""
        self.enter(work)
        try:
            yield
        finally:
            self.leave()


async def meet(fault: Fault) -> None:
    """Raise the fault's error, or wait for ever."""
    if fault.error is not None:
        raise fault.error
    await asyncio.Event().wait()


class FakeUtterance:
    """An utterance of `FakeTokenizer`: audio that failed to arrive is kept, and is there at the next call."""

    def __init__(self, room: "FakeTokenizer", work: Work) -> None:
        self._room = room
        self._work = work
        self._pieces: list[NDArray[np.float32]] = []
        self._is_open = False

    async def push(self, samples: ArrayLike) -> None:
        """See the port."""
        self._begin()
        self._pieces.append(np.array(samples, np.float32))
        await self._room.output(0, self._room.paces.hear, self._room.next_fault())

    async def peek(self) -> tuple[int, ...]:
        """See the port."""
        self._begin()
        await self._room.output(0, self._room.paces.tokens, self._room.next_fault())
        return self._tokens()

    async def finish(self) -> tuple[int, ...]:
        """See the port."""
        self._begin()
        await self._room.output(0, self._room.paces.tokens, self._room.next_fault())
        self._end()
        return self._tokens()

    async def abandon(self) -> None:
        """See the port."""
        self._end()

    def _tokens(self) -> tuple[int, ...]:
        return tokens_of(np.concatenate([np.zeros(0, np.float32), *self._pieces]))

    def _begin(self) -> None:
        if not self._is_open:
            self._room.enter(self._work)
            self._is_open = True

    def _end(self) -> None:
        if self._is_open:
            self._room.leave()
            self._is_open = False


class FakeTokenizer(FakeRoom):
    """One group for each 120 ms, made of what these samples are. Each push, peek and finish is a call of `faults`."""

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None) -> None:
        super().__init__(sleep)
        self.paces = paces

    def listen(self, work: Work) -> FakeUtterance:
        """See the port; `live` counts it from its first call."""
        return FakeUtterance(self, work)


class FakeChatModel(FakeRoom):
    """Answers what it is told to answer.

    Attributes:
        answers: the next replies; when none is left, the last message is repeated.
        transcripts: the next transcripts; when none is left, the length of the speech in words.
        asked: the messages of every reply, in order.
        begun_texts: the text that each of them had begun with already.
        offered: names of the functions that each of them could call.
        heard: the tokens of every transcription.
    """

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None, *, context_tokens: int = 4096) -> None:
        super().__init__(sleep)
        self.answers: deque[str] = deque()
        self.transcripts: deque[str] = deque()
        self.asked: list[tuple[ChatMessage, ...]] = []
        self.begun_texts: list[str] = []
        self.offered: list[tuple[str, ...]] = []
        self._answer = ""
        self.heard: list[tuple[int, ...]] = []
        self._paces = paces
        self._context_tokens = context_tokens

    @property
    def context_tokens(self) -> int:
        """See the port."""
        return self._context_tokens

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """One token for four letters, one for each of speech, and four for the turn; the same for functions."""
        offered = sum(4 + len(tool.description + tool.parameters_json) // TEXT_TOKEN_LETTERS for tool in tools)
        return sum(4 + _content_tokens(message) for message in messages) + 3 + offered

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """See the port: a word a piece, a token a word; a turn that has begun goes on as it began.

        What stands between the marks of a call is read as JSON, and given once it is whole.
        """
        with self.one_call(work):
            self.asked.append(tuple(messages))
            self.offered.append(tuple(tool.name for tool in tools))
            self.begun_texts.append(begun)
            fault = self.next_fault()
            room = self._context_tokens - self.prompt_tokens(messages)
            if room < 1:
                raise PromptTooLongError(f"the conversation takes all of {self._context_tokens} tokens")
            if not begun or not self._answer.startswith(begun):
                self._answer = self.answers.popleft() if self.answers else _repeated(messages)
            words = _words(self._answer.removeprefix(begun))
            allowed = words[: min(room, options.max_new_tokens)]
            for place, word in enumerate(allowed):
                await self.output(place, self._paces.reply, fault)
                yield TextPiece(word, 1) if isinstance(word, str) else TextPiece("", 1, call=word)
            await self.output(len(allowed), self._paces.reply, fault)
            if not allowed and not begun:
                raise EmptyReplyError("the model ended its reply before the first character")
            yield TextPiece("", 0, "stop" if len(allowed) == len(words) else "length")

    async def transcribe(self, tokens: Sequence[int], work: Work) -> str:
        """See the port."""
        if not tokens:
            return ""
        with self.one_call(work):
            self.heard.append(tuple(tokens))
            await self.output(0, self._paces.transcribe, self.next_fault())
            return self.transcripts.popleft() if self.transcripts else f"{len(tokens) // GROUP_TOKENS} groups"


class FakeSpeechModel(FakeRoom):
    """Speech as long as its text, drawn from clause, voice and seed.

    Attributes:
        spoken: every clause, in order.
    """

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None) -> None:
        super().__init__(sleep)
        self.spoken: list[str] = []
        self._paces = paces

    async def speak(
        self, clause: str, voice: PreparedVoice, *, seed: int, work: Work
    ) -> AsyncGenerator[tuple[int, ...], None]:
        """See the port: a group at a time."""
        if not speakable(clause):
            raise NothingToSpeakError("the text has no speakable character")
        with self.one_call(work):
            self.spoken.append(clause)
            fault = self.next_fault()
            key = zlib.crc32(f"{clause}|{voice.voice_id}|{seed}".encode())
            groups = math.ceil(len(clause) / LETTERS_PER_GROUP)
            for place in range(groups):
                await self.output(place, self._paces.speech, fault)
                yield group_of(key + place)
            if fault is not None and fault.after >= groups:
                await meet(fault)


class FakeSpeechStream:
    """A stream of `FakeVocoder`; a push that fails changes nothing."""

    def __init__(self, room: "FakeVocoder", work: Work, *, seed: int) -> None:
        self._room = room
        self._work = work
        self._seed = seed
        self._waiting: tuple[int, ...] = ()
        self._place = 0
        self._is_open = False

    async def push(self, tokens: Sequence[int], *, last: bool, haste: Haste = NO_HASTE) -> NDArray[np.float32]:
        """See the port; haste is written down."""
        self._room.hastes.append(haste)
        with self._room.one_call(self._work):
            waiting = (*self._waiting, *tokens)
            is_ready = last or len(waiting) >= self._room.gather_tokens
            await self._room.output(0 if not self._place else 1, self._room.pace(is_ready), self._room.next_fault())
            if not is_ready:
                self._waiting = waiting
                return np.zeros(0, np.float32)
            start, self._place, self._waiting = self._place, self._place + len(waiting), ()
            return wave_of(waiting, start=start, seed=self._seed)


class FakeVocoder(FakeRoom):
    """529.2 samples a token; `gather_tokens` are waited for before any come out. Each push is a call of `faults`.

    Attributes:
        hastes: of every push, in order.
    """

    def __init__(
        self, paces: Paces = INSTANT, sleep: Sleep | None = None, *, gather_tokens: int = 3 * GROUP_TOKENS
    ) -> None:
        super().__init__(sleep)
        self.gather_tokens = gather_tokens
        self.hastes: list[Haste] = []
        self._paces = paces

    @property
    def sample_rate_hz(self) -> int:
        """See the port."""
        return OUTPUT_RATE_HZ

    def pace(self, is_ready: bool) -> Pace:
        """The pace of a push: gathering takes no time."""
        return self._paces.wave if is_ready else Pace()

    def open(self, voice: PreparedVoice, *, seed: int, work: Work) -> FakeSpeechStream:
        """See the port."""
        return FakeSpeechStream(self, work, seed=seed)


class FakeVoiceMaker(FakeRoom):
    """A voice whose tokens are those of `FakeTokenizer`, with features that are all zero."""

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None) -> None:
        super().__init__(sleep)
        self._paces = paces

    async def prepare(
        self, voice_id: str, *, speaker: str, transcript: str, samples: ArrayLike, sample_rate_hz: int
    ) -> PreparedVoice:
        """See the port."""
        with self.one_call(Work()):
            await self.output(0, self._paces.voice, self.next_fault())
            clip = checked_clip(samples, sample_rate_hz).samples
            tokens = tokens_of(clip[:: max(1, sample_rate_hz // INPUT_RATE_HZ)])
            return made_up_voice(voice_id, speaker=speaker, transcript=transcript, tokens=tokens)


class FakeBuiltInVoices(FakeRoom):
    """Two voices, "Fake" and "Other"; what they cost is in `begun`."""

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None) -> None:
        super().__init__(sleep)
        self._paces = paces

    @property
    def names(self) -> tuple[str, ...]:
        """See the port."""
        return ("Fake", "Other")

    @property
    def default_name(self) -> str:
        """See the port."""
        return self.names[0]

    async def get(self, voice_id: str) -> PreparedVoice:
        """See the port."""
        if voice_id not in self.names:
            raise VoiceNotFoundError(f"no voice named {voice_id!r}; known voices: {', '.join(self.names)}")
        with self.one_call(Work()):
            await self.output(0, self._paces.voice, self.next_fault())
            return made_up_voice(voice_id, speaker=voice_id, tokens=group_of(self.names.index(voice_id)))


class FakeRooms:
    """One of each.

    Attributes:
        rooms: all of them as the ports' bundle.
    """

    def __init__(self, paces: Paces = INSTANT, *, sleep: Sleep | None = None, context_tokens: int = 4096) -> None:
        """Args: paces: delays. sleep: waits so long in the caller's time; without it nothing waits."""
        self.tokenizer = FakeTokenizer(paces, sleep)
        self.chat = FakeChatModel(paces, sleep, context_tokens=context_tokens)
        self.speech = FakeSpeechModel(paces, sleep)
        self.vocoder = FakeVocoder(paces, sleep)
        self.voices = FakeVoiceMaker(paces, sleep)
        self.built_in = FakeBuiltInVoices(paces, sleep)
        self.rooms = Rooms(self.tokenizer, self.chat, self.speech, self.vocoder, self.voices, self.built_in)

    @property
    def live(self) -> dict[str, int]:
        """What has begun and not ended, by room; empty when nothing leaks."""
        rooms: dict[str, FakeRoom] = {
            "tokenizer": self.tokenizer,
            "chat": self.chat,
            "speech": self.speech,
            "vocoder": self.vocoder,
            "voices": self.voices,
            "built_in": self.built_in,
        }
        return {name: room.live for name, room in rooms.items() if room.live}


def made_up_voice(
    voice_id: str = "fake", *, speaker: str = "Fake", transcript: str = "Hello.", tokens: tuple[int, ...] = ()
) -> PreparedVoice:
    """A voice with features of the right shapes; two mel frames for each token."""
    mel = np.zeros((2 * len(tokens), MEL_CHANNELS), np.float32)
    return PreparedVoice(voice_id, speaker, transcript, tokens, mel, np.zeros(EMBEDDING_SIZE, np.float32))


def group_of(key: int) -> tuple[int, ...]:
    """A whole group of codec values drawn from a number."""
    linguistic = [(key * 31 + place * 7) % LINGUISTIC_SIZE for place in range(GROUP_LINGUISTIC)]
    semantic = [SEMANTIC_OFFSET + (key * 17 + place * 11) % SEMANTIC_SIZE for place in range(GROUP_SEMANTIC)]
    return (*linguistic, *semantic)


def tokens_of(samples: NDArray[np.float32]) -> tuple[int, ...]:
    """The tokens that `FakeTokenizer` hears in an utterance."""
    whole = len(samples) - len(samples) % GROUP_SAMPLES
    return tuple(
        token
        for start in range(0, whole, GROUP_SAMPLES)
        for token in group_of(zlib.crc32(samples[start : start + GROUP_SAMPLES].tobytes()))
    )


def wave_of(tokens: Sequence[int], *, start: int, seed: int) -> NDArray[np.float32]:
    """The samples that `FakeVocoder` makes of tokens that stand at `start` of their stream: a level for each."""
    ends = [(start + place) * OUTPUT_RATE_HZ // TOKEN_RATE_HZ for place in range(len(tokens) + 1)]
    levels = [((token + seed) % CODEC_SIZE + 1) / CODEC_SIZE - 0.5 for token in tokens]
    return np.repeat(np.array(levels, np.float32), np.diff(np.array(ends, np.int64)))


def _words(text: str) -> list[str | FunctionCall]:
    words: list[str | FunctionCall] = []
    for place, part in enumerate(text.replace(CALL_END, CALL_START).split(CALL_START)):
        if place % 2:
            call = read_call(part, CallForm.JSON)
            words.append(FunctionCall(call.name, call.arguments_json, call.problem))
            continue
        words += [word + " " for word in part.split(" ")[:-1]] + [word for word in part.split(" ")[-1:] if word]
    return words


def _repeated(messages: Sequence[ChatMessage]) -> str:
    content = messages[-1].content
    match content:
        case SpeechTokens(tokens=tokens):
            return f"I heard {len(tokens)} tokens."
        case ToolResult(text=text, is_error=is_error):
            return f"It failed: {text}" if is_error else f"It gave: {text}"
    return f"You said: {content}"


def _content_tokens(message: ChatMessage) -> int:
    match message.content:
        case SpeechTokens(tokens=tokens):
            return len(tokens)
        case ToolCall(name=name, arguments_json=arguments):
            return math.ceil(len(name + arguments) / TEXT_TOKEN_LETTERS)
        case ToolResult(text=text) | str(text):
            return math.ceil(len(text) / TEXT_TOKEN_LETTERS)
