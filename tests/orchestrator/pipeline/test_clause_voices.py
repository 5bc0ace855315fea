"""Who speaks a clause: the reply's voice, and for music the speaker's own recording of that kind."""

import asyncio

import pytest

from services.orchestrator.pipeline.clause_voices import ClauseVoices
from services.orchestrator.ports.rooms import PreparedVoice
from services.shared.errors import VoiceNotFoundError
from tests.fakes.rooms import made_up_voice

pytestmark = pytest.mark.unit

ENTRIES = ("Tingting", "TingtingRAP", "Tingting哼唱")


async def find(voice_id: str) -> PreparedVoice:
    if voice_id not in ENTRIES:
        raise VoiceNotFoundError(f"no voice named {voice_id!r}")
    return made_up_voice(voice_id)


def voice_of(text: str, own: PreparedVoice) -> tuple[str, bool]:
    voice = asyncio.run(ClauseVoices(own, find).of(text))
    return voice.voice_id, voice.sings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It rains.", ("Tingting", False)),
        ("（高兴1）It rains.", ("Tingting", False)),
        ("（RAP）It rains.", ("TingtingRAP", True)),
        ("(哼唱)La la.", ("Tingting哼唱", True)),
    ],
)
def test_a_speaker_sings_with_the_recording_of_that_kind(text: str, wanted: tuple[str, bool]) -> None:
    assert voice_of(text, made_up_voice("Tingting")) == wanted


def test_a_clone_sings_with_its_only_recording() -> None:
    assert voice_of("（RAP）It rains.", made_up_voice("mine", speaker="")) == ("mine", True)


def test_a_speaker_without_a_recording_of_that_kind_is_refused_by_name() -> None:
    with pytest.raises(VoiceNotFoundError, match="NanoRAP"):
        voice_of("（RAP）It rains.", made_up_voice("Nano"))
