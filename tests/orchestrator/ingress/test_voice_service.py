"""Voices over a real server."""

import io

import grpc
import numpy as np
import pytest
import soundfile as sf
from google.protobuf.timestamp_pb2 import Timestamp

from protos.gen.stepaudio.v1 import audio_pb2, voice_pb2
from tests.orchestrator.ingress.serving import PCM16, Served, refusal_of, run, serving

pytestmark = pytest.mark.contract

RATE_HZ = 16_000
TONE = (0.3 * np.sin(np.arange(2 * RATE_HZ) / 9)).astype(np.float32)


def wav(samples: np.ndarray = TONE, rate_hz: int = RATE_HZ, kind: str = "WAV") -> bytes:  # type: ignore[type-arg]  # any array
    """A file of these samples."""
    file = io.BytesIO()
    sf.write(file, samples, rate_hz, format=kind)
    return file.getvalue()


def consent(**changed: object) -> voice_pb2.VoiceConsent:
    """An agreement that suffices, with some of it changed."""
    given = voice_pb2.VoiceConsent(
        basis=voice_pb2.CONSENT_BASIS_SPEAKER_AGREED,
        speaker_name="Ada",
        record="file 7",
        consent_time=Timestamp(seconds=1_000),
    )
    for name, value in changed.items():
        given.ClearField(name)  # type: ignore[arg-type]  # whichever field a test changes
        if value is not None:
            given.MergeFrom(voice_pb2.VoiceConsent(**{name: value}))  # type: ignore[arg-type]  # as above
    return given


def request(**changed: object) -> voice_pb2.CreateVoiceRequest:
    """A voice to be made, with some of it changed."""
    fields: dict[str, object] = {
        "request_id": "r",
        "display_name": "Ada",
        "clip": audio_pb2.AudioClip(data=wav()),
        "transcript": "Good morning.",
        "consent": consent(),
    }
    return voice_pb2.CreateVoiceRequest(**fields | changed)  # type: ignore[arg-type]  # whichever fields a test sets


async def make(served: Served, **changed: object) -> voice_pb2.Voice:
    """Make a voice."""
    return (await served.voice.CreateVoice(request(**changed))).voice


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "raw"])
def test_a_voice_is_made_of_any_recording_and_can_be_asked_for(kind: str) -> None:
    async def test() -> None:
        raw = audio_pb2.AudioClip(data=(TONE * 32_767).astype("<i2").tobytes(), format=PCM16)
        clip = raw if kind == "raw" else audio_pb2.AudioClip(data=wav(kind=kind))
        async with serving() as served:
            voice = await make(served, clip=clip)
            assert voice.voice_id.startswith("voice-")
            assert voice.display_name == "Ada"
            assert voice.kind == voice_pb2.VOICE_KIND_CLONED
            assert abs(voice.clip_ms - 2000) < 60
            assert voice.consent == consent()
            assert voice.expire_time.seconds - voice.create_time.seconds == 1000
            got = await served.voice.GetVoice(voice_pb2.GetVoiceRequest(voice_id=voice.voice_id))
            assert got.voice == voice

    run(test)


def test_the_same_request_gives_the_voice_made_before_and_another_content_is_refused() -> None:
    async def test() -> None:
        async with serving() as served:
            first = await make(served)
            assert await make(served) == first
            refusal = await refusal_of(served.voice.CreateVoice(request(transcript="Good evening.")))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    run(test)


REFUSED = [
    ({"consent": voice_pb2.VoiceConsent()}, "CONSENT_REQUIRED", "consent.basis"),
    ({"consent": consent(basis=9)}, "CONSENT_REQUIRED", "consent.basis"),
    ({"consent": consent(speaker_name=None)}, "CONSENT_REQUIRED", "consent.speaker_name"),
    ({"consent": consent(record=None)}, "CONSENT_REQUIRED", "consent.record"),
    ({"consent": consent(consent_time=None)}, "CONSENT_REQUIRED", "consent.consent_time"),
    ({"consent": consent(consent_time=Timestamp(seconds=9_000_000_000))}, "INVALID_INPUT", "consent.consent_time"),
    ({"consent": consent(record="x" * 257)}, "INVALID_INPUT", "consent.record"),
    ({"display_name": ""}, "INVALID_INPUT", "display_name"),
    ({"request_id": "x" * 65}, "INVALID_INPUT", "request_id"),
    ({"transcript": "..."}, "NOTHING_TO_SPEAK", "transcript"),
    ({"transcript": "x" * 1025}, "TEXT_TOO_LONG", "transcript"),
    ({"clip": audio_pb2.AudioClip()}, "EMPTY_AUDIO", "clip.data"),
    ({"clip": audio_pb2.AudioClip(data=wav(TONE[:7000]))}, "EMPTY_AUDIO", "clip"),
    ({"clip": audio_pb2.AudioClip(data=wav(np.zeros(RATE_HZ, np.float32)))}, "EMPTY_AUDIO", "clip"),
    ({"clip": audio_pb2.AudioClip(data=b"no audio at all")}, "UNREADABLE_AUDIO", ""),
    ({"clip": audio_pb2.AudioClip(data=wav()[:-9000])}, "UNREADABLE_AUDIO", ""),
    ({"clip": audio_pb2.AudioClip(data=wav(np.zeros(31 * 8000, np.float32), 8000))}, "AUDIO_TOO_LONG", ""),
    ({"clip": audio_pb2.AudioClip(data=bytes(9), format=PCM16)}, "UNREADABLE_AUDIO", "audio.data"),
    ({"clip": audio_pb2.AudioClip(data=bytes(3_670_017))}, "MESSAGE_TOO_LARGE", "clip.data"),
    (
        {
            "clip": audio_pb2.AudioClip(
                data=b"x", format=audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=48_000)
            )
        },
        "UNSUPPORTED_AUDIO_FORMAT",
        "clip.format.encoding",
    ),
]


@pytest.mark.parametrize(
    ("changed", "reason", "field"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_can_give_no_voice_is_refused_before_any_room_works(
    changed: dict[str, object], reason: str, field: str
) -> None:
    async def test() -> None:
        async with serving() as served:
            refusal = await refusal_of(served.voice.CreateVoice(request(**changed)))
            assert (refusal.reason, refusal.details.get("field", "")) == (reason, field)
            assert served.behind.rooms.voices.begun == 0

    run(test)


def test_hours_of_silence_in_a_small_file_are_refused_without_being_decoded() -> None:
    async def test() -> None:
        bomb = wav(np.zeros(3600 * 8000, np.float32), 8000, "FLAC")
        assert len(bomb) < 500_000
        async with serving() as served:
            refusal = await refusal_of(served.voice.CreateVoice(request(clip=audio_pb2.AudioClip(data=bomb))))
            assert refusal.reason == "AUDIO_TOO_LONG"

    run(test)


def test_voices_are_listed_page_by_page_built_in_ones_first() -> None:
    async def test() -> None:
        async with serving() as served:
            for number in range(3):
                await make(served, request_id="", transcript=f"This is {number}.", display_name=str(number))
            names: list[str] = []
            token = ""
            for _ in range(4):
                page = await served.voice.ListVoices(voice_pb2.ListVoicesRequest(page_size=2, page_token=token))
                names += [voice.display_name for voice in page.voices]
                token = page.next_page_token
                if not token:
                    break
            assert names == ["Fake", "Other", "0", "1", "2"]
            cloned = await served.voice.ListVoices(voice_pb2.ListVoicesRequest(kind=voice_pb2.VOICE_KIND_CLONED))
            assert [voice.display_name for voice in cloned.voices] == ["0", "1", "2"]
            built_in = await served.voice.ListVoices(voice_pb2.ListVoicesRequest(kind=voice_pb2.VOICE_KIND_BUILT_IN))
            assert [(voice.display_name, voice.sings) for voice in built_in.voices] == [
                ("Fake", True),
                ("Other", False),
            ]

    run(test)


def test_a_page_token_is_for_its_own_list_and_for_an_hour() -> None:
    async def test() -> None:
        async with serving() as served:
            page = await served.voice.ListVoices(voice_pb2.ListVoicesRequest(page_size=1))
            other = voice_pb2.ListVoicesRequest(page_token=page.next_page_token, kind=voice_pb2.VOICE_KIND_BUILT_IN)
            assert (await refusal_of(served.voice.ListVoices(other))).reason == "INVALID_PAGE_TOKEN"
            served.behind.clock.pass_s(3601)
            late = voice_pb2.ListVoicesRequest(page_token=page.next_page_token)
            assert (await refusal_of(served.voice.ListVoices(late))).reason == "INVALID_PAGE_TOKEN"
            negative = voice_pb2.ListVoicesRequest(page_size=-1)
            assert (await refusal_of(served.voice.ListVoices(negative))).reason == "INVALID_INPUT"

    run(test)


def test_a_voice_is_deleted_once_and_a_built_in_one_never() -> None:
    async def test() -> None:
        async with serving() as served:
            voice = await make(served)
            delete = voice_pb2.DeleteVoiceRequest(voice_id=voice.voice_id)
            await served.voice.DeleteVoice(delete)
            assert (await refusal_of(served.voice.DeleteVoice(delete))).reason == "VOICE_NOT_FOUND"
            built_in = await refusal_of(served.voice.DeleteVoice(voice_pb2.DeleteVoiceRequest(voice_id="Fake")))
            assert (built_in.code, built_in.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICE_IS_BUILT_IN")
            for voice_id in ("", "x" * 65, "nobody"):
                refusal = await refusal_of(served.voice.GetVoice(voice_pb2.GetVoiceRequest(voice_id=voice_id)))
                assert refusal.reason == "VOICE_NOT_FOUND"

    run(test)
