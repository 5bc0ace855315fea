"""Everything the product does, offline: ask, say, transcribe, tokenize, resynthesize, each with the time of every room.

    recording ─ tokenizer ─ tokens ─ chat model ─ text ─ clauses ─ speech model ─ tokens ─ vocoder ─ wave

Rooms stand in a row and know nothing of each other; what passes between them passes here. Inputs are judged before the
long work: a silent or over-long recording, an unknown voice or an empty text fails at once.
Replaces the released offline_inference.py and tts_inference.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from services.offline.rooms import Rooms
from services.offline.speaking import Speaker, Speech, SpeechOptions
from services.offline.timing import RoomTime, Stopwatch
from services.shared.audio.files import Audio
from services.shared.audio.pcm import as_mono
from services.shared.codec import GROUP_MS, TOKEN_RATE_HZ
from services.shared.errors import EmptyAudioError, EmptyReplyError, NothingToSpeakError, PromptTooLongError, TextError
from services.shared.prompt.chat import Message, SpeechContent
from services.shared.prompt.speech import speakable
from services.shared.prompt.speech.clauses import split_clauses
from services.tokenizer import SpeechTokens

SILENT_PEAK: Final = 1e-3
"""A recording that never exceeds -60 dBFS holds nothing to answer."""
RESERVED_TOKENS: Final = 256
"""Left to system prompt and reply when the longest question is worked out."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to answer.

    Attributes:
        system: system prompt; empty for none.
        temperature: 0 takes the likeliest words; the checkpoint's own if None.
        seed: of the sampling.
    """

    system: str = ""
    temperature: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """Speech, and what each room spent on it."""

    speech: Speech
    times: tuple[RoomTime, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A spoken answer.

    Attributes:
        heard: the chat model's own transcript of the question; None for a written one.
        text: what was answered.
        speech: the same, spoken.
        times: of each room.
    """

    heard: str | None
    text: str
    speech: Speech
    times: tuple[RoomTime, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording, and what each room spent on it."""

    text: str
    times: tuple[RoomTime, ...]


class OfflinePipeline:
    """All rooms of one checkpoints folder, for one request at a time.

    Args:
        checkpoints: the folder of the three public folders.
        notify: told before each long step, for a progress display.
        dtype: of the language models and the flow.
    """

    def __init__(
        self,
        checkpoints: Path,
        *,
        notify: Callable[[str], None] = lambda step: None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rooms = Rooms(checkpoints, notify=notify, dtype=dtype)
        self._notify = notify

    def ask(self, question: Audio | str, chat: ChatOptions, options: SpeechOptions) -> Answer:
        """Answer a question by voice.

        Args:
            question: a recording, or written text.
            chat: how to answer.
            options: how to speak.

        Raises:
            AudioError, TextError, PromptTooLongError: the question cannot be taken.
            VoiceNotFoundError: the voice is unknown.
            GenerationError: the answer is empty or cannot be spoken.
            CheckpointError: a room's folder cannot be used.
        """
        watch = Stopwatch()
        speaker = self._speaker(options, watch)
        speaker.check_voice()
        heard, tokens = None, None
        content: str | SpeechContent
        if isinstance(question, Audio):
            tokens = self._listen(question, watch)
            content = SpeechContent(tokens)
        elif speakable(question):
            content = question
        else:
            raise TextError("the question has no words; write what to ask")
        text = self._reply(content, chat, watch)
        if tokens is not None:
            heard = self._transcribe(tokens, watch)
        try:
            clauses = split_clauses(text)
        except NothingToSpeakError as error:
            raise EmptyReplyError(f"the chat model answered nothing that can be spoken: {text!r}") from error
        speech = speaker.speak(clauses)
        question_s = question.duration_s if isinstance(question, Audio) else 0.0
        times = self._times(watch, spoken_s=speaker.spoken_s, heard_s=question_s)
        return Answer(heard=heard, text=text, speech=speech, times=times)

    def say(self, text: str, options: SpeechOptions) -> Spoken:
        """Speak a text of any length.

        Raises:
            NothingToSpeakError: the text has no speakable character.
            VoiceNotFoundError, GenerationError, CheckpointError: see `ask`.
        """
        watch = Stopwatch()
        speaker = self._speaker(options, watch)
        speaker.check_voice()
        speech = speaker.speak(split_clauses(text))
        return Spoken(speech, self._times(watch, spoken_s=speaker.spoken_s))

    def add_voice(self, name: str, clip: Audio, *, text: str) -> None:
        """Add the voice of a clip under a name, for `say` and `ask`.

        Raises:
            AudioError, NothingToSpeakError, InvalidOptionError: clip, transcript or name cannot be taken.
        """
        self.rooms.voices.add(name, clip.samples, clip.sample_rate_hz, text=text)

    def transcribe(self, recording: Audio) -> Transcript:
        """Write down what is said in a recording, by the chat model.

        Raises:
            AudioError, PromptTooLongError, CheckpointError: see `ask`.
        """
        watch = Stopwatch()
        text = self._transcribe(self._listen(recording, watch), watch)
        return Transcript(text, self._times(watch, heard_s=recording.duration_s))

    def tokenize(self, recording: Audio) -> SpeechTokens:
        """Turn a recording into speech tokens.

        Raises:
            AudioError, CheckpointError: see `ask`.
        """
        tokenizer = self.rooms.tokenizer
        self._notify("listening")
        return tokenizer.tokenize(recording.samples, recording.sample_rate_hz)

    def resynthesize(self, recording: Audio, options: SpeechOptions) -> Spoken:
        """Pass a recording through tokens and back, spoken by the voice of the options: what the codec keeps.

        Raises:
            AudioError, VoiceNotFoundError, CheckpointError: see `ask`.
        """
        watch = Stopwatch()
        speaker = self._speaker(options, watch)
        speaker.check_voice()
        tokens = self._tokens(recording, watch)
        speech = speaker.resynthesize(tokens)
        return Spoken(speech, self._times(watch, spoken_s=speaker.spoken_s, heard_s=recording.duration_s))

    @property
    def longest_recording_s(self) -> float:
        """Longest recording that the chat model takes, in seconds."""
        return (self.rooms.chat_context_tokens - RESERVED_TOKENS) / float(TOKEN_RATE_HZ)

    def _speaker(self, options: SpeechOptions, watch: Stopwatch) -> Speaker:
        return Speaker(self.rooms, options, watch=watch, notify=self._notify)

    def _listen(self, recording: Audio, watch: Stopwatch) -> Sequence[int]:
        """Tokens of a recording that the chat model can take."""
        if recording.duration_s > self.longest_recording_s:
            raise PromptTooLongError(
                f"the recording has {recording.duration_s:.0f} s; "
                f"this chat model takes at most {self.longest_recording_s:.0f} s"
            )
        if float(np.abs(as_mono(recording.samples)).max()) < SILENT_PEAK:
            raise EmptyAudioError("the recording is silent; check the microphone or the file")
        return self._tokens(recording, watch)

    def _tokens(self, recording: Audio, watch: Stopwatch) -> list[int]:
        tokenizer = self.rooms.tokenizer
        self._notify("listening")
        with watch.room("tokenizer"):
            tokens = tokenizer.tokenize(recording.samples, recording.sample_rate_hz).interleaved
        if len(tokens) == 0:
            raise EmptyAudioError(
                f"the recording has {recording.duration_s:.2f} s, too little for a group of tokens ({GROUP_MS} ms)"
            )
        return [int(token) for token in tokens]

    def _reply(self, content: str | SpeechContent, options: ChatOptions, watch: Stopwatch) -> str:
        chat = self.rooms.chat
        self._notify("thinking")
        messages = [Message("system", options.system)] if options.system else []
        messages.append(Message("user", content))
        params = replace(chat.params, seed=options.seed)
        if options.temperature is not None:
            params = replace(params, temperature=options.temperature)
        with watch.room("chat"):
            return "".join(chat.reply(messages, params)).strip()

    def _transcribe(self, tokens: Sequence[int], watch: Stopwatch) -> str:
        chat = self.rooms.chat
        self._notify("writing down what was said")
        with watch.room("transcript"):
            return chat.transcribe(tokens).strip()

    def _times(self, watch: Stopwatch, *, spoken_s: float = 0.0, heard_s: float = 0.0) -> tuple[RoomTime, ...]:
        audio_s = {"tokenizer": heard_s, "transcript": heard_s, "chat": spoken_s, "tts": spoken_s, "vocoder": spoken_s}
        return watch.times(audio_s)
