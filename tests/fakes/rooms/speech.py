"""The fake tts and vocoder rooms, and the voices that they speak with."""

import math
import zlib
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.orchestrator.ports.rooms import NO_HASTE, Haste, PreparedVoice, Work
from services.shared.codec import GROUP_TOKENS
from services.shared.errors import NothingToSpeakError, VoiceNotFoundError
from services.shared.prompt.speech import speakable
from services.shared.voices import checked_clip
from tests.fakes.rooms.made_up import INPUT_RATE_HZ, OUTPUT_RATE_HZ, group_of, made_up_voice, tokens_of, wave_of
from tests.fakes.rooms.room import INSTANT, FakeRoom, Pace, Paces, Sleep, meet

LETTERS_PER_GROUP: Final = 2
"""Speech of 15 letters a second has about so many in 120 ms."""


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
