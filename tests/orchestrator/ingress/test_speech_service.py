"""The rooms one by one, over a real server with fake rooms."""

import asyncio
from collections.abc import Iterable

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, chat_pb2, options_pb2, speech_pb2, tools_pb2
from services.shared.errors import RoomUnavailableError
from tests.fakes.rooms import Fault
from tests.orchestrator.ingress.serving import PCM16, PCM24, Behind, Served, refusal_of, run, serving
from tests.orchestrator.ingress.test_voice_service import wav

pytestmark = pytest.mark.contract

LOUD = (0.3 * np.sin(np.arange(16_000) / 9) * 32_767).astype("<i2")
QUIET = np.zeros(16_000, "<i2")


async def spoken(served: Served, **fields: object) -> list[speech_pb2.SynthesizeResponse]:
    """Have a text spoken."""
    request = speech_pb2.SynthesizeRequest(audio=PCM24)
    request.MergeFrom(speech_pb2.SynthesizeRequest(**fields))  # type: ignore[arg-type]  # whichever fields a test sets
    return [part async for part in served.speech.Synthesize(request)]


async def written(
    served: Served, requests: Iterable[speech_pb2.TranscribeRequest]
) -> list[speech_pb2.TranscribeResponse]:
    """Have speech written down."""
    return [part async for part in served.speech.Transcribe(iter(tuple(requests)))]


async def answered(served: Served, **fields: object) -> list[speech_pb2.ChatResponse]:
    """Have the agent answer."""
    request = speech_pb2.ChatRequest(**fields)  # type: ignore[arg-type]  # whichever fields a test sets
    return [part async for part in served.speech.Chat(request)]


def config(**fields: object) -> speech_pb2.TranscribeRequest:
    """The first message of a dictation."""
    message = speech_pb2.TranscribeConfig(audio=PCM16)
    message.MergeFrom(speech_pb2.TranscribeConfig(**fields))  # type: ignore[arg-type]  # whichever fields a test sets
    return speech_pb2.TranscribeRequest(config=message)


def chunks(samples: np.ndarray, length: int = 3200) -> Iterable[speech_pb2.TranscribeRequest]:  # type: ignore[type-arg]  # PCM
    """Speech in chunks."""
    for start in range(0, len(samples), length):
        chunk = audio_pb2.AudioChunk(data=samples[start : start + length].tobytes())
        yield speech_pb2.TranscribeRequest(audio=chunk)


def test_a_text_is_spoken_without_gaps_to_its_last_character() -> None:
    async def test() -> None:
        text = "（高兴1）It rains in Lisbon. The sun will shine again tomorrow."
        async with serving() as served:
            parts = await spoken(served, text=text, chunk_ms=20)
            assert served.behind.rooms.live == {}
        assert parts[0].started.voice_id == "Fake"
        position = 0
        for part in parts[1:-1]:
            assert part.audio.audio.first_sample == position
            position += len(part.audio.audio.data) // 2
        finished = parts[-1].finished
        assert finished.total_samples == position > 24_000
        assert finished.speech_tokens > 0
        assert parts[-2].audio.spoken_characters == len(text)
        characters = [part.audio.spoken_characters for part in parts[1:-1]]
        assert characters == sorted(characters)

    run(test)


def test_the_same_seed_speaks_the_same_and_twice_the_speed_takes_half_as_long() -> None:
    async def test() -> None:
        text = "The sun will shine again tomorrow."
        async with serving() as served:
            seeded = await spoken(served, text=text, voice=options_pb2.VoiceOptions(seed=3))
            again = await spoken(served, text=text, voice=options_pb2.VoiceOptions(seed=3))
            other = await spoken(served, text=text, voice=options_pb2.VoiceOptions(seed=4))
            fast = await spoken(served, text=text, voice=options_pb2.VoiceOptions(seed=3, speed=2.0))

        def sound(parts: list[speech_pb2.SynthesizeResponse]) -> bytes:
            return b"".join(part.audio.audio.data for part in parts)

        assert sound(seeded) == sound(again) != sound(other)
        assert abs(fast[-1].finished.total_samples * 2 - seeded[-1].finished.total_samples) < 200

    run(test)


WRONG_TEXTS = [
    ({"text": ""}, "INVALID_TEXT", "text"),
    ({"text": "x" * 16_385}, "TEXT_TOO_LONG", "text"),
    ({"text": "...!"}, "NOTHING_TO_SPEAK", "text"),
    (
        {"text": "Hi", "audio": audio_pb2.AudioFormat(sample_rate_hz=100)},
        "UNSUPPORTED_AUDIO_FORMAT",
        "audio.sample_rate_hz",
    ),
    ({"text": "Hi", "chunk_ms": 7}, "UNSUPPORTED_AUDIO_FORMAT", "reply_chunk_ms"),
    ({"text": "Hi", "voice": options_pb2.VoiceOptions(speed=float("nan"))}, "INVALID_OPTION", "voice.speed"),
]


@pytest.mark.parametrize(
    ("fields", "reason", "field"), WRONG_TEXTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_text_that_cannot_be_spoken_is_refused_by_field(fields: dict[str, object], reason: str, field: str) -> None:
    async def test() -> None:
        async with serving() as served:
            refusal = await refusal_of(spoken(served, **fields))
            assert (refusal.reason, refusal.details["field"]) == (reason, field)
            unknown = options_pb2.VoiceOptions(voice_id="nobody")
            assert (await refusal_of(spoken(served, text="Hi", voice=unknown))).reason == "VOICE_NOT_FOUND"

    run(test)


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_whatever_ends_a_synthesis_lets_go_of_every_room(end: str) -> None:
    async def test() -> None:
        behind = Behind()
        behind.rooms.speech.faults.append(Fault(None))
        async with serving(behind) as served:
            request = speech_pb2.SynthesizeRequest(text="Hello.", audio=PCM24)
            call = served.speech.Synthesize(request, timeout=0.2 if end == "deadline" else None)
            first = await call.read()
            assert isinstance(first, speech_pb2.SynthesizeResponse)
            if end == "cancel":
                call.cancel()
            else:
                refusal = await refusal_of(call.read())
                assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
            while behind.rooms.live:
                await asyncio.sleep(0.005)

    run(test)


def test_a_room_that_is_gone_is_told_with_a_retry() -> None:
    async def test() -> None:
        behind = Behind()
        behind.rooms.speech.faults.append(Fault(RoomUnavailableError("the tts room does not answer")))
        async with serving(behind) as served:
            refusal = await refusal_of(spoken(served, text="Hello."))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE")
            assert refusal.retry_s == 0.5
            assert behind.rooms.live == {}

    run(test)


def test_each_utterance_is_bounded_and_written_down() -> None:
    async def test() -> None:
        behind = Behind()
        behind.rooms.chat.transcripts.extend(["good morning", "good night"])
        sound = np.concatenate([QUIET, LOUD, QUIET, LOUD])
        async with serving(behind) as served:
            parts = await written(served, [config(silence_ms=300), *chunks(sound)])
            assert behind.rooms.live == {}
            assert behind.detector.streams[0].closed
        kinds = [part.WhichOneof("part") for part in parts]
        assert kinds == ["speech_started", "speech_stopped", "transcript"] * 2 + ["finished"]
        assert [part.transcript.text for part in parts[2::3]] == ["good morning", "good night"]
        assert abs(parts[0].speech_started.sample - 16_000) <= 512
        assert abs(parts[1].speech_stopped.sample - 32_000) <= 512
        assert parts[-1].finished.total_samples == len(sound)

    run(test)


def test_words_so_far_are_told_once_at_each_pause_where_that_is_asked_for() -> None:
    async def test() -> None:
        behind = Behind()
        behind.rooms.chat.transcripts.extend(["good", "good morning", "", "and good", "and good night"])
        pause = QUIET[:6400]
        sound = np.concatenate([LOUD, pause, LOUD, pause, LOUD, QUIET, LOUD])
        async with serving(behind) as served:
            parts = await written(served, [config(silence_ms=600, partial_transcripts=True), *chunks(sound)])
            assert behind.rooms.live == {}
        said = [part.transcript for part in parts if part.HasField("transcript")]
        assert [(part.text, part.is_final) for part in said] == [
            ("good", False),
            ("good morning", False),
            ("and good", True),
            ("and good night", True),
        ]
        assert abs(said[0].end_sample - 16_000) <= 512
        assert said[0].first_sample == said[1].first_sample == said[2].first_sample
        first, second, third, whole, _ = behind.rooms.chat.heard
        assert len(first) < len(second) < len(third) <= len(whole)

    run(test)


def test_silence_has_no_utterance_and_speech_of_thirty_seconds_ends_one() -> None:
    async def test() -> None:
        async with serving() as served:
            silent = await written(served, [config(), *chunks(np.tile(QUIET, 3))])
            assert [part.WhichOneof("part") for part in silent] == ["finished"]
            long = await written(served, [config(), *chunks(np.tile(LOUD, 33))])
            stops = [part.speech_stopped.sample for part in long if part.HasField("speech_stopped")]
            assert len(stops) == 2
            assert abs(stops[0] - 480_000) <= 1024

    run(test)


WRONG_DICTATIONS = [
    ([], "INVALID_FIRST_MESSAGE"),
    (list(chunks(LOUD[:320])), "INVALID_FIRST_MESSAGE"),
    ([config(), config()], "INVALID_FIRST_MESSAGE"),
    ([config(), speech_pb2.TranscribeRequest()], "INVALID_INPUT"),
    ([config(audio=audio_pb2.AudioFormat(encoding=audio_pb2.AudioEncoding.ValueType(77)))], "UNSUPPORTED_AUDIO_FORMAT"),
    ([config(silence_ms=99)], "INVALID_OPTION"),
    ([config(), speech_pb2.TranscribeRequest(audio=audio_pb2.AudioChunk(data=b"123"))], "UNREADABLE_AUDIO"),
    (
        [config(), speech_pb2.TranscribeRequest(audio=audio_pb2.AudioChunk(data=b"12", first_sample=2**62))],
        "INVALID_INPUT",
    ),
]


@pytest.mark.parametrize(
    ("requests", "reason"), WRONG_DICTATIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_wrong_dictation_is_refused(requests: list[speech_pb2.TranscribeRequest], reason: str) -> None:
    async def test() -> None:
        async with serving() as served:
            assert (await refusal_of(written(served, requests))).reason == reason
            assert all(stream.closed for stream in served.behind.detector.streams)

    run(test)


def test_a_dictation_in_which_nothing_comes_is_idle() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.speech.Transcribe()
            await call.write(config())
            refusal = await refusal_of(call.read())
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INPUT_IDLE")

    run(test)


def test_the_agent_answers_piece_by_piece() -> None:
    async def test() -> None:
        behind = Behind()
        behind.rooms.chat.answers.append("It rains today")
        async with serving(behind) as served:
            parts = await answered(served, messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="Hi")])
        assert "".join(part.text for part in parts) == "It rains today"
        assert parts[-1].finished.reason == speech_pb2.CHAT_FINISH_REASON_STOP
        assert parts[-1].finished.text_tokens == 3
        assert parts[-1].finished.prompt_tokens > 0

    run(test)


def test_speech_in_a_message_is_heard_as_tokens_and_the_longest_answer_is_held() -> None:
    async def test() -> None:
        behind = Behind()
        message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, audio=audio_pb2.AudioClip(data=wav()))
        async with serving(behind) as served:
            generation = options_pb2.GenerationOptions(max_new_tokens=1)
            parts = await answered(served, messages=[message], generation=generation)
            assert parts[-1].finished.reason == speech_pb2.CHAT_FINISH_REASON_LENGTH
            assert not isinstance(behind.rooms.chat.asked[0][0].content, str)
            assert behind.rooms.live == {}

    run(test)


WRONG_CHATS = [
    ({}, "EMPTY_CONVERSATION"),
    ({"messages": [chat_pb2.ChatMessage(text="x")]}, "INVALID_INPUT"),
    ({"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER)]}, "INVALID_INPUT"),
    ({"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="")]}, "INVALID_TEXT"),
    ({"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="x" * 16_385)]}, "TEXT_TOO_LONG"),
    ({"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="x")] * 513}, "INVALID_INPUT"),
    ({"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="x" * 16_384)] * 2}, "PROMPT_TOO_LONG"),
    (
        {"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, audio=audio_pb2.AudioClip(data=b"x"))]},
        "INVALID_INPUT",
    ),
    (
        {"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, audio=audio_pb2.AudioClip(data=b"x"))]},
        "UNREADABLE_AUDIO",
    ),
    (
        {"messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_TOOL, tool_result=tools_pb2.ToolResult())]},
        "INVALID_INPUT",
    ),
    (
        {
            "messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="x")],
            "tools": [tools_pb2.Tool(name="t")],
        },
        "INVALID_OPTION",
    ),
    (
        {
            "messages": [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="x")],
            "generation": options_pb2.GenerationOptions(temperature=float("nan")),
        },
        "INVALID_OPTION",
    ),
]


@pytest.mark.parametrize(("fields", "reason"), WRONG_CHATS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_conversation_is_refused(fields: dict[str, object], reason: str) -> None:
    async def test() -> None:
        async with serving() as served:
            refusal = await refusal_of(answered(served, **fields))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
            assert served.behind.rooms.live == {}

    run(test)
