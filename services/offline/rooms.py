"""The rooms of one checkpoints folder, each loaded when it is first needed, and the voices' features, computed once.

    <checkpoints>/Step-Audio-Tokenizer   tokenizer
    <checkpoints>/Step-Audio-Chat        chat
    <checkpoints>/Step-Audio-TTS-3B      speech model, voices, vocoder, and the music vocoder where it was downloaded

So speaking needs no chat model, and a download without the music vocoder says so only to who asks for a song.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch

from services.lm.chat import ChatLm, load_chat_lm
from services.offline.timing import Stopwatch
from services.shared.errors import MissingFileError
from services.shared.nn.step1 import read_step1_config
from services.shared.paths import CHAT_FOLDER, MUSIC_VOCODER_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.shared.prompt.speech import VoicePrompt
from services.shared.voices import Voice, VoiceRegistry
from services.tokenizer import SpeechTokenizer, load_speech_tokenizer
from services.tts.speech_lm import SpeechLm, load_speech_lm
from services.vocoder import Vocoder, VoiceFeatures, load_vocoder

Room = TypeVar("Room")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVoice:
    """A voice as the speech model and the vocoder take it."""

    prompt: VoicePrompt
    features: VoiceFeatures


class Rooms:
    """The rooms of one checkpoints folder.

    Args:
        checkpoints: the folder of the three public folders.
        notify: told before each long step, for a progress display.
        dtype: of both language models and the flow; the release runs them in bfloat16. What feeds them (tokenizer,
            speaker network) and HiFT are always float32.

    Raises:
        MissingFileError: the folder does not exist.
    """

    def __init__(self, checkpoints: Path, *, notify: Callable[[str], None], dtype: torch.dtype = torch.float32) -> None:
        if not checkpoints.is_dir():
            raise MissingFileError(f"{checkpoints} is not a folder; give the folder of the downloaded checkpoints")
        self._checkpoints = checkpoints
        self._notify = notify
        self._dtype = dtype
        self._prepared: dict[tuple[str, bool], PreparedVoice] = {}
        self.loading = Stopwatch()

    @cached_property
    def tokenizer(self) -> SpeechTokenizer:
        """The speech tokenizer."""
        return self._load("tokenizer", load_speech_tokenizer, TOKENIZER_FOLDER)

    @cached_property
    def chat(self) -> ChatLm:
        """The chat model."""
        return self._load("chat model", partial(load_chat_lm, dtype=self._dtype), CHAT_FOLDER)

    @cached_property
    def chat_context_tokens(self) -> int:
        """Longest conversation of the chat model, reply included; known without its weights."""
        return read_step1_config(self._checkpoints / CHAT_FOLDER).max_seq_len

    @cached_property
    def speech(self) -> SpeechLm:
        """The speech model."""
        return self._load("speech model", partial(load_speech_lm, dtype=self._dtype), TTS_FOLDER)

    @cached_property
    def voices(self) -> VoiceRegistry:
        """The checkpoint's voices, and those added."""
        return VoiceRegistry.load(self._checkpoints / TTS_FOLDER)

    def vocoder(self, *, music: bool) -> Vocoder:
        """The vocoder for speech, or the one for music.

        Raises:
            MissingFileError: the folder of the music vocoder was not downloaded.
        """
        return self._music_vocoder if music else self._speech_vocoder

    @cached_property
    def _speech_vocoder(self) -> Vocoder:
        return self._load("vocoder", partial(load_vocoder, dtype=self._dtype), f"{TTS_FOLDER}/{VOCODER_FOLDER}")

    @cached_property
    def _music_vocoder(self) -> Vocoder:
        folder = self._checkpoints / TTS_FOLDER / MUSIC_VOCODER_FOLDER
        if not folder.is_dir():
            raise MissingFileError(
                f"{folder} is missing, so nothing can be rapped or hummed; download it or leave out the tag"
            )
        return self._load(
            "music vocoder", partial(load_vocoder, dtype=self._dtype), f"{TTS_FOLDER}/{MUSIC_VOCODER_FOLDER}"
        )

    def prepare(self, voice: Voice, *, music: bool) -> PreparedVoice:
        """Compute what a voice's clip gives the models: its tokens (trimmed), mel and embedding (as recorded)."""
        key = (voice.name, music)
        if key not in self._prepared:
            vocoder = self.vocoder(music=music)
            self._notify(f"listening to the voice {voice.name}")
            clip = voice.audio()
            tokens = self.tokenizer.tokenize(clip.samples, clip.sample_rate_hz, trim=True).interleaved
            self._prepared[key] = PreparedVoice(
                prompt=VoicePrompt(voice.prompt_speaker, voice.text, tuple(int(token) for token in tokens)),
                features=vocoder.voice_features(clip.samples, clip.sample_rate_hz, tokens),
            )
        return self._prepared[key]

    def _load(self, room: str, loader: Callable[[Path], Room], folder: str) -> Room:
        self._notify(f"loading the {room}")
        with self.loading.room(room):
            return loader(self._checkpoints / folder)
