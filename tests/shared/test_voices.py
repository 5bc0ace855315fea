"""The voice registry: read lazily from the checkpoint, extended by clips, and clear about what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.shared.errors import (
    AudioTooLongError,
    CorruptFileError,
    EmptyAudioError,
    InvalidOptionError,
    MissingFileError,
    NonFiniteAudioError,
    NothingToSpeakError,
    VoiceNotFoundError,
)
from services.shared.paths import TTS_FOLDER
from services.shared.voices import MAX_CLIP_S, MIN_CLIP_S, VoiceRegistry
from tests.conftest import NANO, published_file

pytestmark = pytest.mark.unit

RATE_HZ = 16000
CLIP = 0.1 * np.sin(np.arange(RATE_HZ, dtype=np.float32))


@pytest.fixture
def registry() -> VoiceRegistry:
    return VoiceRegistry.load(NANO / TTS_FOLDER)


def speakers_folder(tmp_path: Path, content: str) -> Path:
    (tmp_path / "speakers").mkdir()
    (tmp_path / "speakers" / "speakers_info.json").write_text(content, encoding="utf-8")
    return tmp_path


def test_the_nano_voices_can_be_read(registry: VoiceRegistry) -> None:
    assert registry.names == ("Nano", "Tingting", "Mike")
    told = json.loads((NANO / TTS_FOLDER / "speakers" / "speakers_info.json").read_text(encoding="utf-8"))
    voice = registry.get("Nano")
    assert (voice.text, voice.prompt_speaker, voice.cloned) == (told["Nano"], "Nano", False)
    assert 1 < voice.audio().duration_s < 3


def test_the_public_list_is_read_as_utf_8_and_routes_music_to_its_own_recording() -> None:
    registry = VoiceRegistry.load(published_file("speakers/speakers_info.json").parents[1])

    assert registry.default_name == "Tingting"
    assert registry.for_text("Tingting", "（哼唱）啦啦").name == "Tingting哼唱"
    assert registry.for_text("Tingting", "（RAP）啦啦").text.startswith("（RAP）远远甩开")
    assert registry.for_text("Tingting", "啦啦").audio().duration_s > 1


def test_an_unknown_voice_is_refused_with_the_known_names(registry: VoiceRegistry) -> None:
    with pytest.raises(VoiceNotFoundError, match=r"'Nemo'.*Nano, Tingting"):
        registry.get("Nemo")
    with pytest.raises(VoiceNotFoundError, match="'NanoRAP'"):
        registry.for_text("Nano", "(RAP)yo")


def test_a_missing_recording_is_named_only_when_it_is_needed(tmp_path: Path) -> None:
    registry = VoiceRegistry.load(speakers_folder(tmp_path, '{"Ghost": "boo"}'))

    voice = registry.get("Ghost")
    with pytest.raises(MissingFileError, match=r"Ghost_prompt\.wav is missing.*'Ghost'"):
        voice.audio()


def test_a_missing_or_broken_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="speakers"):
        VoiceRegistry.load(tmp_path)
    folder = speakers_folder(tmp_path, "[]")
    for content in ("[]", '{"a": 1}', "{"):
        (folder / "speakers" / "speakers_info.json").write_text(content)
        with pytest.raises(CorruptFileError, match=r"speakers_info\.json"):
            VoiceRegistry.load(folder)


def test_a_list_of_music_alone_has_no_default_voice(tmp_path: Path) -> None:
    registry = VoiceRegistry.load(speakers_folder(tmp_path, json.dumps({"TingtingRAP": "（RAP）"})))

    with pytest.raises(VoiceNotFoundError):
        _ = registry.default_name


def test_a_clip_becomes_a_voice_without_a_name_in_the_prompt_and_speaks_music_itself(registry: VoiceRegistry) -> None:
    registry.add("mine", np.stack([CLIP, CLIP]), RATE_HZ, text="hello")

    voice = registry.for_text("mine", "(RAP)yo")
    assert (voice.name, voice.prompt_speaker, voice.text) == ("mine", "", "hello")
    np.testing.assert_allclose(voice.audio().samples, CLIP, atol=1e-6)
    assert registry.names[-1] == "mine"


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "Nano"])
def test_a_name_that_is_empty_long_or_taken_is_refused(registry: VoiceRegistry, name: str) -> None:
    with pytest.raises(InvalidOptionError):
        registry.add(name, CLIP, RATE_HZ, text="hello")


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        (CLIP[: int(MIN_CLIP_S * RATE_HZ) - 1], EmptyAudioError),
        (np.resize(CLIP, int(MAX_CLIP_S * RATE_HZ) + 1), AudioTooLongError),
        (np.zeros(RATE_HZ, np.float32), EmptyAudioError),
        (np.full(RATE_HZ, np.nan, np.float32), NonFiniteAudioError),
        (np.zeros(0, np.float32), EmptyAudioError),
    ],
)
def test_a_clip_that_cannot_give_a_voice_is_refused(
    registry: VoiceRegistry, samples: np.ndarray[tuple[int], np.dtype[np.float32]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        registry.add("mine", samples, RATE_HZ, text="hello")
    assert "mine" not in registry.names


@pytest.mark.parametrize("text", ["", "…", "(高兴1)"])
def test_a_transcript_without_words_is_refused(registry: VoiceRegistry, text: str) -> None:
    with pytest.raises(NothingToSpeakError):
        registry.add("mine", CLIP, RATE_HZ, text=text)


def test_a_rate_that_is_no_rate_is_refused(registry: VoiceRegistry) -> None:
    with pytest.raises(InvalidOptionError):
        registry.add("mine", CLIP, 0, text="hello")
