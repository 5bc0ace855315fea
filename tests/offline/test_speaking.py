"""Speaking with rooms that fail on purpose: retries, their bound and their report, and what is computed once."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from services.offline.rooms import PreparedVoice, Rooms
from services.offline.speaking import MAX_ATTEMPTS, PIECE_TOKENS, Speaker, SpeechOptions
from services.offline.timing import Stopwatch
from services.shared.audio.files import Audio
from services.shared.codec.alignment import Repairs
from services.shared.errors import (
    GenerationError,
    InvalidOptionError,
    MisalignedSpeechError,
    PromptTooLongError,
    StepAudioError,
    VoiceNotFoundError,
)
from services.shared.prompt.speech import VoicePrompt
from services.shared.prompt.speech.decoding import SpeechParams
from services.shared.voices import Voice, VoiceRegistry
from services.vocoder import VoiceFeatures
from services.vocoder.config import SAMPLE_RATE_HZ

pytestmark = pytest.mark.unit

GROUP = [3, 700, 1024, 2048, 5119]
SILENCE = Audio(np.zeros(SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)


class FakeStream:
    """A stream of one group, or of one error."""

    repairs = Repairs(seen=5)

    def __init__(self, error: StepAudioError | None) -> None:
        self._error = error

    def __iter__(self) -> Iterator[list[int]]:
        if self._error is not None:
            raise self._error
        yield GROUP


class FakeRooms:
    """Rooms of one voice. The speech model fails with the seeds of `failing`; the vocoder gives 10 samples a token."""

    tokenizer = None

    def __init__(self, failing: dict[int, StepAudioError] | None = None) -> None:
        self.failing = failing or {}
        self.seeds: list[int] = []
        self.temperatures: list[float] = []
        self.params = SpeechParams(temperature=0.6)
        self.voiced: list[tuple[int, bool]] = []
        self.music = False
        names = ("Nano", "NanoRAP")
        self.voices = VoiceRegistry({name: Voice(name, "hi", cloned=False, clip=SILENCE) for name in names})

    @property
    def speech(self) -> "FakeRooms":
        return self

    def speak(self, text: str, voice: VoicePrompt, params: SpeechParams) -> FakeStream:
        self.seeds.append(params.seed)
        self.temperatures.append(params.temperature)
        return FakeStream(self.failing.get(params.seed))

    def vocoder(self, *, music: bool) -> "FakeRooms":
        self.music = music
        return self

    def wave(self, tokens: NDArray[np.int64], voice: VoiceFeatures, *, seed: int) -> NDArray[np.float32]:
        self.voiced.append((len(tokens), self.music))
        return np.full(10 * len(tokens), 0.5, np.float32)

    def prepare(self, voice: Voice, *, music: bool) -> PreparedVoice:
        features = VoiceFeatures(np.zeros(0, np.int64), np.zeros((1, 0, 80), np.float32), np.zeros(192, np.float32))
        return PreparedVoice(VoicePrompt(voice.prompt_speaker, voice.text, ()), features)


def speaker(rooms: FakeRooms, options: SpeechOptions | None = None, steps: list[str] | None = None) -> Speaker:
    notify = (steps if steps is not None else []).append
    return Speaker(cast(Rooms, rooms), options or SpeechOptions(seed=7), watch=Stopwatch(), notify=notify)


def test_a_clause_that_fails_is_tried_with_the_next_seeds_and_the_report_says_so() -> None:
    rooms = FakeRooms({7: GenerationError("loop"), 8: MisalignedSpeechError("garble")})

    speech = speaker(rooms).speak(["Hello.", "Yes."])

    assert rooms.seeds == [7, 8, 9, 7, 8, 9]
    assert [(clause.text, clause.voice, clause.tokens, clause.attempts) for clause in speech.clauses] == [
        ("Hello.", "Nano", 5, 3),
        ("Yes.", "Nano", 5, 3),
    ]
    assert len(speech.samples) == 100


def test_the_number_of_seeds_is_bounded_and_the_last_failure_is_told() -> None:
    rooms = FakeRooms({seed: MisalignedSpeechError(f"garble {seed}") for seed in range(100)})

    with pytest.raises(GenerationError, match=f"with {MAX_ATTEMPTS} seeds; last: garble {6 + MAX_ATTEMPTS}"):
        speaker(rooms).speak(["Hello."])
    assert len(rooms.seeds) == MAX_ATTEMPTS


def test_a_failure_that_no_seed_cures_is_raised_at_once() -> None:
    rooms = FakeRooms({7: PromptTooLongError("too long")})

    with pytest.raises(PromptTooLongError):
        speaker(rooms).speak(["Hello."])
    assert rooms.seeds == [7]


def test_rap_takes_the_music_vocoder_and_the_speakers_recording_of_it() -> None:
    rooms = FakeRooms()

    speech = speaker(rooms).speak(["Hello.", "(RAP)yo"])

    assert rooms.voiced == [(5, False), (5, True)]
    assert [clause.voice for clause in speech.clauses] == ["Nano", "NanoRAP"]


def test_long_recordings_are_voiced_in_pieces_of_whole_groups_and_progress_is_told() -> None:
    rooms, steps = FakeRooms(), list[str]()

    speech = speaker(rooms, steps=steps).resynthesize(GROUP * (2 * PIECE_TOKENS // 5 + 1))

    assert [count for count, _ in rooms.voiced] == [PIECE_TOKENS, PIECE_TOKENS, 5]
    assert PIECE_TOKENS % 5 == 0
    assert len(speech.samples) == 10 * (2 * PIECE_TOKENS + 5)
    assert steps == [f"voicing part {number} of 3" for number in (1, 2, 3)]


def test_volume_and_rate_are_applied_to_the_whole() -> None:
    speech = speaker(FakeRooms(), SpeechOptions(volume=0.5, sample_rate_hz=44100)).speak(["Hello."])

    assert speech.sample_rate_hz == 44100
    assert len(speech.samples) == 100
    assert speech.samples[50] == pytest.approx(0.25, abs=0.02)


def test_the_temperature_reaches_the_speech_model_and_is_the_checkpoints_own_if_left_out() -> None:
    rooms = FakeRooms()

    speaker(rooms, SpeechOptions(temperature=0.3)).speak(["Hello."])
    speaker(rooms, SpeechOptions()).speak(["Hello."])

    assert rooms.temperatures == [0.3, rooms.params.temperature]


def test_an_unknown_voice_is_found_before_the_work() -> None:
    with pytest.raises(VoiceNotFoundError):
        speaker(FakeRooms(), SpeechOptions(voice="Nemo")).check_voice()


@pytest.mark.parametrize(
    "wrong",
    [{"speed": 0.1}, {"speed": float("nan")}, {"volume": -1.0}, {"volume": 99.0}, {"sample_rate_hz": 1}],
)
def test_options_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidOptionError):
        SpeechOptions(**wrong)  # type: ignore[arg-type]  # one name at a time, each of its own type
