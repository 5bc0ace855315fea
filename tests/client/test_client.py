"""The services beside conversations: parts as they come, pages, credentials, and what is tried again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from protos.gen.stepaudio.v1 import audio_pb2, chat_pb2, session_pb2, speech_pb2, voice_pb2
from services.local.redis import free_port
from services.shared.errors import InvalidOptionError
from stepaudio import ApiError, Client, Server, Tls
from stepaudio.formats import Chunker, decode, encode, pcm16
from tests.client.conftest import Waits, run
from tests.fakes.server import CUT, Failure, ScriptedServer, tone

pytestmark = pytest.mark.unit

OVERLOADED = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay_s=0.5)
NOT_FOUND = Failure(grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND")


def spoken(data: bytes) -> speech_pb2.SynthesizeResponse:
    return speech_pb2.SynthesizeResponse(
        audio=speech_pb2.SynthesizedAudio(audio=audio_pb2.AudioChunk(data=data, first_sample=0))
    )


def test_speech_comes_part_by_part_after_a_try_that_the_server_put_off() -> None:
    waits = Waits()

    async def main() -> list[speech_pb2.SynthesizeResponse]:
        answers = {"Synthesize": [OVERLOADED, [spoken(tone(240)), spoken(tone(100))]]}
        async with (
            ScriptedServer(answers=answers) as server,
            Client(server.address, retry=waits.retry()) as client,
        ):
            return [part async for part in client.synthesize("Hello.")]

    assert [part.audio.audio.data for part in run(main())] == [tone(240), tone(100)]
    assert waits.asked_s == [0.5]


def test_a_stream_that_fails_after_its_first_part_is_not_begun_again() -> None:
    async def main() -> None:
        async with (
            ScriptedServer(answers={"Synthesize": [[spoken(tone(240)), OVERLOADED]]}) as server,
            Client(server.address, retry=Waits().retry()) as client,
        ):
            parts = client.synthesize("Hello.")
            assert (await anext(parts)).HasField("audio")
            with pytest.raises(ApiError) as failed:
                await anext(parts)
            assert (failed.value.reason, failed.value.retryable, failed.value.retry_delay_s) == (
                "OVERLOADED",
                True,
                0.5,
            )
            assert len(server.calls) == 1

    run(main())


def test_speech_is_transcribed_from_samples_and_from_pieces_as_they_arrive() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, 3200, 100):
            yield tone(3200)[begin * 2 : begin * 2 + 200]

    async def main() -> list[Message]:
        said = speech_pb2.TranscribeResponse(transcript=speech_pb2.TranscribedSpeech(text="Hello.", is_final=True))
        async with (
            ScriptedServer(answers={"Transcribe": [[said], CUT, [said]]}) as server,
            Client(server.address, retry=Waits().retry()) as client,
        ):
            assert [part.transcript.text async for part in client.transcribe(pieces())] == ["Hello."]
            assert [part.transcript.text async for part in client.transcribe(tone(3200))] == ["Hello."]
            assert len(server.calls) == 3
            assert server.calls[1][1] == server.calls[2][1]
            return server.calls[0][1]

    config, *audio = run(main())
    assert isinstance(config, speech_pb2.TranscribeRequest)
    assert config.config.audio == pcm16(16000)
    assert b"".join(request.audio.data for request in audio) == tone(3200)  # type: ignore[attr-defined]  # as sent


def test_chat_streams_its_text() -> None:
    async def main() -> str:
        answer = [speech_pb2.ChatResponse(text="It "), speech_pb2.ChatResponse(text="rains.")]
        message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="Does it rain?")
        async with ScriptedServer(answers={"Chat": [answer]}) as server, Client(server.address) as client:
            return "".join([part.text async for part in client.chat([message])])

    assert run(main()) == "It rains."


def test_voices_are_listed_over_all_pages() -> None:
    async def main() -> list[str]:
        pages = [
            voice_pb2.ListVoicesResponse(voices=[voice_pb2.Voice(voice_id="a")], next_page_token="2"),
            voice_pb2.ListVoicesResponse(voices=[voice_pb2.Voice(voice_id="b")]),
        ]
        async with ScriptedServer(answers={"ListVoices": pages}) as server, Client(server.address) as client:
            listed = [voice.voice_id async for voice in client.list_voices()]
            assert server.calls[1][1] == [voice_pb2.ListVoicesRequest(page_token="2")]
            return listed

    assert run(main()) == ["a", "b"]


def test_a_voice_is_made_once_though_its_answer_was_lost() -> None:
    async def main() -> None:
        made = voice_pb2.CreateVoiceResponse(voice=voice_pb2.Voice(voice_id="mine"))
        async with (
            ScriptedServer(answers={"CreateVoice": [CUT, made]}) as server,
            Client(server.address, retry=Waits().retry()) as client,
        ):
            voice = await client.create_voice(b"clip", "Hello.", voice_pb2.VoiceConsent(), display_name="Me")
            assert voice.voice_id == "mine"
            (_, (first,)), (_, (second,)) = server.calls
            assert first == second
            assert first.request_id  # type: ignore[attr-defined]  # as sent

    run(main())


def test_not_found_after_a_lost_answer_means_deleted() -> None:
    async def main() -> None:
        async with (
            ScriptedServer(answers={"DeleteVoice": [CUT, NOT_FOUND, NOT_FOUND]}) as server,
            Client(server.address, retry=Waits().retry()) as client,
        ):
            await client.delete_voice("mine")
            with pytest.raises(ApiError, match="VOICE_NOT_FOUND"):
                await client.delete_voice("mine")

    run(main())


def test_sessions_are_read_and_deleted() -> None:
    async def main() -> None:
        answers: dict[str, list[Any]] = {
            "GetSession": [session_pb2.GetSessionResponse(session=session_pb2.Session(session_id="s"))],
            "ListTurns": [
                session_pb2.ListTurnsResponse(turns=[session_pb2.Turn(number=1)], next_page_token="2"),
                session_pb2.ListTurnsResponse(turns=[session_pb2.Turn(number=2)]),
            ],
            "DeleteSession": [session_pb2.DeleteSessionResponse()],
        }
        async with ScriptedServer(answers=answers) as server, Client(server.address) as client:
            assert (await client.get_session("s")).session_id == "s"
            assert [turn.number async for turn in client.list_turns("s")] == [1, 2]
            await client.delete_session("s")

    run(main())


def test_the_caller_is_named_in_every_call_and_secrets_are_not_shown() -> None:
    async def main() -> None:
        async with ScriptedServer(answers={"GetVoice": [voice_pb2.GetVoiceResponse()]}) as server:
            where = Server.at(server.address, bearer_token="secret", api_key="key")
            async with Client(where) as client:
                await client.get_voice("a")
            assert server.metadata[0]["authorization"] == "Bearer secret"
            assert server.metadata[0]["x-api-key"] == "key"
            assert "secret" not in repr(where)

    run(main())


@pytest.mark.parametrize("address", ["", "host", "http://host:1", "host:port", "host:99999", "grpc://host:1/path"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidOptionError, match="no address"):
        Server.at(address)


def test_tls_is_chosen_by_the_scheme_and_half_a_certificate_refused() -> None:
    assert Server.at("grpcs://host:443") == Server("host:443", tls=Tls())
    assert Server.at("grpc://host:80") == Server.at("host:80") == Server("host:80")
    with pytest.raises(InvalidOptionError, match="together"):
        Tls(certificate_chain=b"pem")


def test_nobody_at_the_address_is_retryable_and_then_raised() -> None:
    waits = Waits()

    async def main() -> None:
        async with ScriptedServer() as server:
            address = server.address
        async with Client(address, retry=waits.retry(max_attempts=3)) as client:
            with pytest.raises(ApiError) as failed:
                await client.get_voice("a")
        assert failed.value.code is grpc.StatusCode.UNAVAILABLE

    run(main())
    assert waits.asked_s == [0.1, 0.2]


def test_delays_double_are_spread_and_never_shorter_than_asked_for() -> None:
    retry = Waits().retry(max_delay_s=1.0)
    error = ApiError("", code=grpc.StatusCode.UNAVAILABLE, reason="DRAINING", retry_delay_s=0.4)
    patient = ApiError("", code=grpc.StatusCode.UNAVAILABLE, reason="DRAINING", retry_delay_s=7.0)

    assert [retry.delay_s(error, attempt) for attempt in (1, 2, 3, 400)] == [0.4, 0.8, 1.0, 1.0]
    assert retry.delay_s(patient, 3) == 7.0


@pytest.mark.parametrize("encoding", [audio_pb2.AUDIO_ENCODING_PCM16, audio_pb2.AUDIO_ENCODING_FLOAT32])
def test_samples_survive_the_wire(encoding: audio_pb2.AudioEncoding.ValueType) -> None:
    audio = audio_pb2.AudioFormat(encoding=encoding, sample_rate_hz=16000)
    samples = np.arange(-32768, 32768, dtype=np.float32) / 32768
    assert np.array_equal(decode(encode(samples, audio), audio), samples)


@pytest.mark.parametrize("piece_samples", [1, 159, 160, 641, 5000])
def test_any_cutting_gives_the_same_audio_in_chunks_that_the_api_takes(piece_samples: int) -> None:
    chunker, data = Chunker(pcm16(16000)), tone(5000)
    chunks = []
    for begin in range(0, len(data), 2 * piece_samples):
        chunks += chunker.push(data[begin : begin + 2 * piece_samples])
    assert all(160 <= len(chunk.data) // 2 <= 640 for chunk in chunks)
    chunks += chunker.flush()
    assert b"".join(chunk.data for chunk in chunks) == data
    ends = [chunk.first_sample + len(chunk.data) // 2 for chunk in chunks]
    assert [chunk.first_sample for chunk in chunks] == [0, *ends[:-1]]


def test_closing_a_stream_early_cancels_the_call() -> None:
    async def main() -> None:
        async with (
            ScriptedServer(answers={"Synthesize": [[spoken(tone(240))] * 3]}) as server,
            Client(server.address) as client,
        ):
            parts = client.synthesize("Hello.")
            await anext(parts)
            await parts.aclose()
            await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("address", ["1.2.3.4:5,host:6", "1.2.3.4:5,", "1.2.3.4,1.2.3.5", "dns:///name", "dns:///:5"])
def test_addresses_of_all_replicas_are_numbers_or_one_name(address: str) -> None:
    with pytest.raises(InvalidOptionError, match="no address of a replica"):
        Server.at(address)


def test_where_every_replica_is_known_a_call_goes_to_one_that_serves() -> None:
    async def main() -> None:
        draining, health = grpc.aio.server(), HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, draining)
        await health.enter_graceful_shutdown()
        port, gone = draining.add_insecure_port("127.0.0.1:0"), free_port()
        await draining.start()
        answers = {"GetVoice": [voice_pb2.GetVoiceResponse(voice=voice_pb2.Voice(voice_id="a"))] * 4}
        async with ScriptedServer(answers=answers) as server:
            for _ in range(2):
                async with Client(f"127.0.0.1:{gone},127.0.0.1:{port},{server.address}") as client:
                    assert [(await client.get_voice("a")).voice_id for _ in range(2)] == ["a", "a"]
        await draining.stop(0)

    run(main())
