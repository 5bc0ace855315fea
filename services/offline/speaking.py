"""Speaking a text with one voice: clause by clause through the speech model and the vocoder, with retries and effects.

A clause whose speech goes wrong in a way that another seed may cure (a loop, text or garble in the stream, no speech)
is tried again with the next seeds, `MAX_ATTEMPTS` times in all; how often that happened is part of the result.
Everything random comes from the seed: the same text, voice and seed give the same samples.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.offline.rooms import PreparedVoice, Rooms
from services.offline.timing import Stopwatch
from services.shared.audio.effects import MAX_SPEED, MIN_SPEED, change_speed, change_volume
from services.shared.audio.resample import resample
from services.shared.codec import GROUP_MS, GROUP_TOKENS
from services.shared.codec.alignment import Repairs
from services.shared.errors import GenerationError, InvalidOptionError
from services.shared.prompt.speech import is_music
from services.vocoder.config import SAMPLE_RATE_HZ

MAX_ATTEMPTS: Final = 5
"""Seeds a clause is tried with. At one slip in six clauses, five in a row are one in eight thousand."""
PIECE_TOKENS: Final = 160 * GROUP_TOKENS
"""Recorded tokens are voiced in pieces of 19.2 s: the flow attends to all of a piece at once."""
MAX_VOLUME: Final = 10.0
MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 192000

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How to speak.

    Attributes:
        voice: registry entry; the checkpoint's first one if None.
        seed: of sampling and noise.
        temperature: of the speech model; lower is plainer and slips less, higher is livelier; the checkpoint's own if
            None.
        speed: tempo ratio, pitch kept; 2 is twice as fast.
        volume: amplitude ratio.
        sample_rate_hz: of the result; the vocoder's own if None.

    Raises:
        InvalidOptionError: a value is outside its range.
    """

    voice: str | None = None
    seed: int = 0
    temperature: float | None = None
    speed: float = 1.0
    volume: float = 1.0
    sample_rate_hz: int | None = None

    def __post_init__(self) -> None:
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            raise InvalidOptionError(f"the speed is {MIN_SPEED:g} to {MAX_SPEED:g}, not {self.speed:g}")
        if not 0 <= self.volume <= MAX_VOLUME:
            raise InvalidOptionError(f"the volume is 0 to {MAX_VOLUME:g}, not {self.volume:g}")
        if self.sample_rate_hz is not None and not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise InvalidOptionError(f"the output rate is {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, not {self.sample_rate_hz}")


@dataclass(frozen=True, slots=True)
class SpokenClause:
    """How one clause came to be.

    Attributes:
        text: with its style tags.
        voice: registry entry that spoke it.
        tokens: speech tokens, whole groups.
        attempts: seeds tried, 1 where the first one did.
        repairs: what was mended in the stream that was kept.
    """

    text: str
    voice: str
    tokens: int
    attempts: int
    repairs: Repairs


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """Spoken audio.

    Attributes:
        samples: [N] float32.
        sample_rate_hz: of the samples.
        clauses: what it is made of; empty where tokens were given instead of text.
    """

    samples: Samples
    sample_rate_hz: int
    clauses: tuple[SpokenClause, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


class Speaker:
    """Speaks for one request.

    Args:
        rooms: where models and voices come from.
        options: how to speak.
        watch: counts the time of each room.
        notify: told before each clause.
    """

    def __init__(
        self, rooms: Rooms, options: SpeechOptions, *, watch: Stopwatch, notify: Callable[[str], None]
    ) -> None:
        self._rooms = rooms
        self._options = options
        self._watch = watch
        self._notify = notify
        self.spoken_s = 0.0

    @property
    def voice_name(self) -> str:
        """The voice asked for, or the checkpoint's first one."""
        return self._options.voice or self._rooms.voices.default_name

    def check_voice(self) -> None:
        """Fail before any long work if the voice is unknown.

        Raises:
            VoiceNotFoundError: it is.
        """
        self._rooms.voices.get(self.voice_name)

    def speak(self, clauses: Sequence[str]) -> Speech:
        """Speak clauses one after another.

        Raises:
            GenerationError: a clause failed with every seed.
            VoiceNotFoundError, MissingFileError: the voice, its recording for music, or the music vocoder is missing.
        """
        pieces, spoken = [], []
        for number, text in enumerate(clauses, 1):
            clause, tokens = self._generate(text, f"speaking clause {number} of {len(clauses)}")
            pieces.append(self._voiced(tokens, clause.voice, music=is_music(text)))
            spoken.append(clause)
        return self._finished(pieces, spoken)

    def resynthesize(self, tokens: Sequence[int]) -> Speech:
        """Voice recorded speech tokens with the voice of the options."""
        pieces = []
        starts = range(0, len(tokens), PIECE_TOKENS)
        for number, start in enumerate(starts, 1):
            self._notify(f"voicing part {number} of {len(starts)}")
            pieces.append(self._voiced(tokens[start : start + PIECE_TOKENS], self.voice_name, music=False))
        return self._finished(pieces, ())

    def _generate(self, text: str, step: str) -> tuple[SpokenClause, list[int]]:
        voice = self._rooms.voices.for_text(self.voice_name, text)
        prepared = self._prepare(voice.name, music=is_music(text))
        speech_lm = self._rooms.speech
        self._notify(step)
        failure: GenerationError | None = None
        for attempt in range(MAX_ATTEMPTS):
            params = replace(speech_lm.params, seed=self._options.seed + attempt)
            if self._options.temperature is not None:
                params = replace(params, temperature=self._options.temperature)
            stream = speech_lm.speak(text, prepared.prompt, params)
            try:
                with self._watch.room("tts"):
                    tokens = [value for group in stream for value in group]
            except GenerationError as error:
                failure = error
                continue
            clause = SpokenClause(text, voice.name, len(tokens), attempt + 1, stream.repairs)
            return clause, tokens
        raise GenerationError(f"no speech for {text!r} with {MAX_ATTEMPTS} seeds; last: {failure}") from failure

    def _voiced(self, tokens: Sequence[int], voice: str, *, music: bool) -> Samples:
        features = self._prepare(voice, music=music).features
        vocoder = self._rooms.vocoder(music=music)
        self.spoken_s += len(tokens) / GROUP_TOKENS * GROUP_MS / 1000
        with self._watch.room("vocoder"):
            return vocoder.wave(np.asarray(tokens, dtype=np.int64), features, seed=self._options.seed)

    def _prepare(self, name: str, *, music: bool) -> PreparedVoice:
        voice = self._rooms.voices.get(name)
        self._rooms.vocoder(music=music)
        _ = self._rooms.tokenizer  # loaded outside the clock: loading has its own
        with self._watch.room("voice"):
            return self._rooms.prepare(voice, music=music)

    def _finished(self, pieces: Iterable[Samples], clauses: Iterable[SpokenClause]) -> Speech:
        options, rate_hz = self._options, SAMPLE_RATE_HZ
        samples = np.concatenate(list(pieces))
        if options.speed != 1.0:
            samples = change_speed(samples, rate_hz, options.speed)
        if options.volume != 1.0:
            samples = change_volume(samples, options.volume)
        if options.sample_rate_hz is not None:
            samples, rate_hz = resample(samples, rate_hz, options.sample_rate_hz), options.sample_rate_hz
        return Speech(samples, rate_hz, tuple(clauses))
