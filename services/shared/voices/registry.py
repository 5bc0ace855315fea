"""The voice registry: named clips with their transcripts, from the checkpoint's speakers folder or added at run time.

A clip is read when it is first needed, so that a folder with a missing recording still serves its other voices. What a
clip sounds like in tokens, mel and embedding is not known here: other rooms compute that.

    speakers/speakers_info.json   {"Tingting": "what the clip says", "TingtingRAP": …, "Tingting哼唱": …}   (UTF-8)
    speakers/{name}_prompt.wav

Source: the released tts.py; unlike it, nothing depends on the working directory, and a missing entry is a typed error.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.shared.audio.files import Audio, read_audio
from services.shared.audio.pcm import as_mono
from services.shared.errors import (
    AudioTooLongError,
    CorruptFileError,
    EmptyAudioError,
    InvalidOptionError,
    MissingFileError,
    NothingToSpeakError,
    VoiceNotFoundError,
)
from services.shared.files import read_json
from services.shared.paths import SPEAKERS_FILE, SPEAKERS_FOLDER
from services.shared.prompt.speech.tags import MUSIC_TAGS, speakable, voice_entry

MIN_CLIP_S = 0.5
"""Below this a clip holds too few tokens to give a voice (the shortest published clip has 1.3 s)."""
MAX_CLIP_S = 30.0
"""The semantic tokenizer's window; a longer clip would also leave little of the context to the text."""
_SILENT_PEAK = 1e-3
_MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One voice of the registry.

    Attributes:
        name: the registry entry, e.g. "Tingting", "TingtingRAP".
        text: what its clip says.
        cloned: added from a clip at run time; the system prompt then names no speaker.
        clip: the recording, or the file that holds it.
    """

    name: str
    text: str
    cloned: bool
    clip: Audio | Path

    @property
    def prompt_speaker(self) -> str:
        """The name for the system prompt: empty for a clone, which the model has never met."""
        return "" if self.cloned else self.name

    def audio(self) -> Audio:
        """Return the recording, reading its file now if it has one.

        Raises:
            MissingFileError: the file named by the folder's list is absent.
            UnreadableAudioError: it is not audio.
        """
        if isinstance(self.clip, Audio):
            return self.clip
        if not self.clip.is_file():
            raise MissingFileError(
                f"{self.clip} is missing, so the voice {self.name!r} cannot be used; "
                "download the checkpoint again or choose another voice"
            )
        return read_audio(self.clip)


class VoiceRegistry:
    """The voices that can be asked for by name. Safe to use from several threads."""

    def __init__(self, voices: dict[str, Voice]) -> None:
        self._voices = dict(voices)
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: str | Path) -> "VoiceRegistry":
        """Read the list of speakers of a Step-Audio-TTS-3B folder; no clip is opened.

        Args:
            folder: the folder that holds `speakers/`.

        Raises:
            MissingFileError: there is no list.
            CorruptFileError: the list is no mapping of names to texts.
        """
        speakers = Path(folder) / SPEAKERS_FOLDER
        texts = read_json(speakers / SPEAKERS_FILE)
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise CorruptFileError(
                f"{speakers / SPEAKERS_FILE} is no mapping of voice names to texts; download it again"
            )
        return cls(
            {
                name: Voice(name=name, text=text, cloned=False, clip=speakers / f"{name}_prompt.wav")
                for name, text in texts.items()
            }
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every entry, in the order of the list, added voices last."""
        with self._lock:
            return tuple(self._voices)

    @property
    def default_name(self) -> str:
        """The first entry that is not a recording for music.

        Raises:
            VoiceNotFoundError: there is none.
        """
        for name in self.names:
            if not name.endswith(MUSIC_TAGS):
                return name
        raise VoiceNotFoundError("the checkpoint lists no voice; add one from a clip")

    def get(self, name: str) -> Voice:
        """Return the entry of that name.

        Raises:
            VoiceNotFoundError: unknown; the message lists the known names.
        """
        with self._lock:
            voice = self._voices.get(name)
        if voice is None:
            raise VoiceNotFoundError(f"no voice named {name!r}; known voices: {', '.join(self.names) or 'none'}")
        return voice

    def for_text(self, name: str, text: str) -> Voice:
        """Return the entry that speaks `text`: the speaker's own recording for music, a clone's only one always.

        Raises:
            VoiceNotFoundError: the speaker, or the speaker's recording for that tag, is unknown.
        """
        voice = self.get(name)
        return voice if voice.cloned else self.get(voice_entry(name, text))

    def add(self, name: str, samples: ArrayLike, sample_rate_hz: int, *, text: str) -> Voice:
        """Add a voice from a clip; it lives in memory only.

        Args:
            name: the new entry; a name in use is refused.
            samples: [N] or [C, N], 0.5 s to 30 s of speech.
            sample_rate_hz: of the samples.
            text: what the clip says.

        Returns:
            The new voice.

        Raises:
            InvalidOptionError: the name is empty, too long or taken, or the rate is no positive number.
            EmptyAudioError, AudioTooLongError, NonFiniteAudioError: the clip cannot give a voice.
            NothingToSpeakError: the transcript has no speakable character.
        """
        if not name.strip() or len(name) > _MAX_NAME_CHARACTERS:
            raise InvalidOptionError(f"a voice name has 1 to {_MAX_NAME_CHARACTERS} characters, not {len(name)}")
        if not speakable(text):
            raise NothingToSpeakError("the clip's transcript has no speakable character; write down what the clip says")
        voice = Voice(name=name, text=text, cloned=True, clip=checked_clip(samples, sample_rate_hz))
        with self._lock:
            if name in self._voices:
                raise InvalidOptionError(f"the voice name {name!r} is taken; choose another one")
            self._voices[name] = voice
        return voice


def checked_clip(samples: ArrayLike, sample_rate_hz: int) -> Audio:
    """A clip that can give a voice, as one channel.

    Raises:
        InvalidOptionError: the rate is no positive number.
        EmptyAudioError, AudioTooLongError, NonFiniteAudioError, AudioError: the clip cannot give a voice.
    """
    if sample_rate_hz <= 0:
        raise InvalidOptionError(f"a sample rate is a positive number of hertz, not {sample_rate_hz}")
    mono: NDArray[np.float32] = as_mono(samples)
    duration_s = len(mono) / sample_rate_hz
    if duration_s < MIN_CLIP_S:
        raise EmptyAudioError(f"the clip has {duration_s:.2f} s; a voice needs at least {MIN_CLIP_S} s of speech")
    if duration_s > MAX_CLIP_S:
        raise AudioTooLongError(f"the clip has {duration_s:.1f} s; a voice takes at most {MAX_CLIP_S:.0f} s")
    if float(np.abs(mono).max()) < _SILENT_PEAK:
        raise EmptyAudioError("the clip is silent; a voice needs speech")
    return Audio(samples=mono, sample_rate_hz=sample_rate_hz)
