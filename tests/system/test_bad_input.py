"""Bad input over the wire: each has its status code and reason, and the system goes on."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from benchmarks.live_system import LiveSystem
from protos.gen.stepaudio.v1 import (
    audio_pb2,
    chat_pb2,
    conversation_pb2,
    conversation_pb2_grpc,
    options_pb2,
    session_pb2,
    session_pb2_grpc,
    speech_pb2,
    speech_pb2_grpc,
    voice_pb2,
    voice_pb2_grpc,
)
from stepaudio import Conversation
from stepaudio.errors import ApiError

pytestmark = pytest.mark.integration

Request = conversation_pb2.ConverseRequest
CONVERSE = "/stepaudio.v1.ConversationService/Converse"
PCM16 = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=16_000)
FLOAT32 = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_FLOAT32, sample_rate_hz=16_000)
NOBODY = options_pb2.SessionOptions(voice=options_pb2.VoiceOptions(voice_id="nobody"))
MIB = 2**20
Call = Callable[[grpc.aio.Channel], Awaitable[object]]
PATIENCE_S = 30.0


def start(**fields: object) -> Request:
    return Request(start=conversation_pb2.SessionStart(**{"input_audio": PCM16, "reply_audio": PCM16, **fields}))  # type: ignore[arg-type]  # the fields of the message


def audio(data: bytes, first_sample: int | None = None) -> Request:
    return Request(audio=audio_pb2.AudioChunk(data=data, first_sample=first_sample))


def text(words: str, request_id: str = "r") -> Request:
    return Request(text_turn=conversation_pb2.TextTurn(request_id=request_id, text=words))


def opus(rate_hz: int) -> audio_pb2.AudioFormat:
    return audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=rate_hz)


async def status_of(address: str, requests: Sequence[bytes]) -> ApiError | None:
    """The status that a stream ends with; None for OK."""

    async def said() -> AsyncIterator[bytes]:
        for request in requests:
            yield request

    async with grpc.aio.insecure_channel(address) as channel:
        converse: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONVERSE)
        call = converse(said(), timeout=PATIENCE_S)
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return ApiError.from_call(error)
    return None


async def answer_to(address: str, first: Request, message: Request) -> ApiError:
    """The `error` event that a message is answered with, on a stream that ends with OK."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = conversation_pb2_grpc.ConversationServiceStub(channel).Converse(timeout=PATIENCE_S)
        for request in (first, message, Request(end_of_input=conversation_pb2.EndOfInput())):
            await call.write(request)
        errors = [event.error async for event in call if event.HasField("error")]
    assert [error.message_number for error in errors] == [2]
    return ApiError.from_status(errors[0].status)


INVALID = StatusCode.INVALID_ARGUMENT
EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED


def held(error: ApiError | None, code: StatusCode, reason: str) -> None:
    assert error is not None
    assert (error.code, error.reason) == (code, reason), error


@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [
        pytest.param([], INVALID, "INVALID_FIRST_MESSAGE", id="nothing"),
        pytest.param([Request()], INVALID, "INVALID_FIRST_MESSAGE", id="an empty message"),
        pytest.param([audio(b"\0" * 640)], INVALID, "INVALID_FIRST_MESSAGE", id="audio"),
        pytest.param([text("Hello.")], INVALID, "INVALID_FIRST_MESSAGE", id="a turn"),
        pytest.param([start(), start()], INVALID, "INVALID_FIRST_MESSAGE", id="two"),
        pytest.param([start(input_audio=None)], INVALID, "UNSUPPORTED_AUDIO_FORMAT", id="no format"),
        pytest.param([start(input_audio=opus(44_100))], INVALID, "UNSUPPORTED_AUDIO_FORMAT", id="a rate Opus lacks"),
        pytest.param([start(reply_chunk_ms=7)], INVALID, "UNSUPPORTED_AUDIO_FORMAT", id="chunks too short"),
        pytest.param([start(options=NOBODY)], StatusCode.NOT_FOUND, "VOICE_NOT_FOUND", id="a voice nobody has"),
        pytest.param([start(greeting="a" * 4097)], INVALID, "TEXT_TOO_LONG", id="a greeting too long"),
        pytest.param([start(labels={"": "x"})], INVALID, "INVALID_INPUT", id="a label without a key"),
        pytest.param([start(greeting="a" * 2 * MIB)], EXHAUSTED, "MESSAGE_TOO_LARGE", id="2 MiB"),
        pytest.param([start(greeting="a" * 5 * MIB)], EXHAUSTED, "", id="5 MiB, which the transport refuses"),
        pytest.param([start(), audio(b"\0" * 6_402)], INVALID, "UNSUPPORTED_AUDIO_FORMAT", id="a chunk over 200 ms"),
        pytest.param([start(), audio(b"\0" * 2 * MIB)], EXHAUSTED, "MESSAGE_TOO_LARGE", id="a chunk of 2 MiB"),
        pytest.param([start(), audio(b"\0" * 4 * MIB)], EXHAUSTED, "", id="a chunk of 4 MiB"),
        pytest.param([start(), *[audio(b"\0" * 6_400)] * 20], EXHAUSTED, "INPUT_TOO_FAST", id="4 s of audio at once"),
    ],
)
def test_what_cannot_be_mended_ends_the_stream(
    system: LiveSystem, first: list[Request], code: StatusCode, reason: str
) -> None:
    held(asyncio.run(status_of(system.address, [request.SerializeToString() for request in first])), code, reason)


def test_bytes_that_are_no_message_end_the_stream(system: LiveSystem) -> None:
    noise = b"\xff" * 40
    for said in ([noise], [start().SerializeToString(), noise]):
        held(asyncio.run(status_of(system.address, said)), INVALID, "INVALID_INPUT")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        pytest.param(audio(b"\0" * 641), INVALID, "UNREADABLE_AUDIO", id="odd bytes"),
        pytest.param(audio(b""), INVALID, "UNREADABLE_AUDIO", id="no bytes"),
        pytest.param(audio(b"\0" * 640, -1), INVALID, "INVALID_INPUT", id="before the first sample"),
        pytest.param(audio(b"\0" * 640, 2**62), INVALID, "INVALID_INPUT", id="a gap of years"),
        pytest.param(text(""), INVALID, "INVALID_TEXT", id="no text"),
        pytest.param(text("a" * 16_385), INVALID, "TEXT_TOO_LONG", id="too much text"),
        pytest.param(text("Hello.", ""), INVALID, "INVALID_INPUT", id="no request id"),
        pytest.param(
            Request(session_update=conversation_pb2.SessionUpdate(options=NOBODY)),
            StatusCode.NOT_FOUND, "VOICE_NOT_FOUND", id="a voice nobody has",
        ),
        pytest.param(Request(), INVALID, "INVALID_INPUT", id="an empty message"),
    ],
)  # fmt: skip
def test_a_message_that_can_be_mended_is_answered_and_the_stream_goes_on(
    system: LiveSystem, message: Request, code: StatusCode, reason: str
) -> None:
    held(asyncio.run(answer_to(system.address, start(), message)), code, reason)


def test_samples_that_are_no_numbers_are_answered(system: LiveSystem) -> None:
    nan = audio(np.full(320, np.nan, np.float32).tobytes())
    held(asyncio.run(answer_to(system.address, start(input_audio=FLOAT32), nan)), INVALID, "NON_FINITE_AUDIO")


def test_a_turn_that_is_longer_than_the_context_fails_and_the_next_one_works(system: LiveSystem) -> None:
    async def talk() -> list[session_pb2.Turn]:
        ended = []
        async with Conversation(system.address) as conversation:
            await conversation.send_text("你好 " * 4_000)
            async for event in conversation:
                if event.HasField("turn_ended"):
                    ended.append(event.turn_ended)
                    await (
                        conversation.send_text("What is two plus three?")
                        if len(ended) == 1
                        else conversation.end_input()
                    )
        held(ApiError.from_status(ended[0].error), INVALID, "PROMPT_TOO_LONG")
        return [turn.record for turn in ended]

    first, second = asyncio.run(talk())
    assert first.outcome == session_pb2.TURN_OUTCOME_FAILED
    assert second.outcome == session_pb2.TURN_OUTCOME_COMPLETED


async def refused_resumes(address: str) -> dict[str, ApiError | None]:
    """What resumes of a session end with, by what is wrong with them."""

    async def resume(session_id: str, token: str, received: int) -> ApiError | None:
        going_on = conversation_pb2.SessionResume(session_id=session_id, resume_token=token, received_sequence=received)
        return await status_of(address, [Request(resume=going_on).SerializeToString()])

    async with grpc.aio.insecure_channel(address) as channel:
        stub = conversation_pb2_grpc.ConversationServiceStub(channel)
        call = stub.Converse(timeout=PATIENCE_S)
        await call.write(start())
        begun = await call.read()
        await call.write(text("What is two plus three?"))
        await call.read()  # what the client said was heard: such a session waits for its client
        assert isinstance(begun, conversation_pb2.ConverseResponse)
        call.cancel()
        session_id, token = begun.session_started.session_id, begun.session_started.resume_token
        found = {
            "nobody's session": await resume("nobody", token, 1),
            "no id": await resume("", token, 1),
            "a wrong token": await resume(session_id, "wrong", 1),
            "more than was sent": await resume(session_id, token, 10**9),
        }
        again = stub.Converse(timeout=PATIENCE_S)
        await again.write(Request(resume=conversation_pb2.SessionResume(session_id=session_id, resume_token=token)))
        newer = await again.read()
        assert isinstance(newer, conversation_pb2.ConverseResponse)
        await again.write(Request(interrupt=conversation_pb2.Interrupt()))  # the newer token has come
        await again.write(Request(end_of_input=conversation_pb2.EndOfInput()))
        found["an older token"] = await resume(session_id, token, 1)
        while await again.read() is not grpc.aio.EOF:
            pass
        found["an ended session"] = await resume(session_id, newer.session_started.resume_token, 1)
    return found


def test_a_resume_that_may_not_be_is_refused(system: LiveSystem) -> None:
    found = asyncio.run(refused_resumes(system.address))
    assert {what: error and (error.code, error.reason) for what, error in found.items()} == {
        "nobody's session": (StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"),
        "no id": (INVALID, "INVALID_INPUT"),
        "a wrong token": (StatusCode.PERMISSION_DENIED, "INVALID_RESUME_TOKEN"),
        "more than was sent": (INVALID, "INVALID_INPUT"),
        "an older token": (StatusCode.PERMISSION_DENIED, "INVALID_RESUME_TOKEN"),
        "an ended session": (StatusCode.FAILED_PRECONDITION, "SESSION_ENDED"),
    }


def synthesis(**fields: object) -> Call:
    request = speech_pb2.SynthesizeRequest(**{"text": "Hello.", "audio": PCM16, **fields})  # type: ignore[arg-type]  # the fields of the message
    return lambda channel: parts(speech_pb2_grpc.SpeechServiceStub(channel).Synthesize(request, timeout=PATIENCE_S))


def chat(*messages: chat_pb2.ChatMessage) -> Call:
    request = speech_pb2.ChatRequest(messages=messages)
    return lambda channel: parts(speech_pb2_grpc.SpeechServiceStub(channel).Chat(request, timeout=PATIENCE_S))


def voice(**fields: object) -> Call:
    request = voice_pb2.CreateVoiceRequest(**{"request_id": "v", "display_name": "v", "transcript": "Hello.", **fields})  # type: ignore[arg-type]  # as above
    return lambda channel: voice_pb2_grpc.VoiceServiceStub(channel).CreateVoice(request, timeout=PATIENCE_S)


async def parts(call: AsyncIterable[object]) -> None:
    async for _ in call:
        pass


NOBODYS = options_pb2.VoiceOptions(voice_id="nobody")


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        pytest.param(synthesis(text=""), INVALID, "INVALID_TEXT", id="no text"),
        pytest.param(synthesis(text="…!?"), INVALID, "NOTHING_TO_SPEAK", id="nothing to speak"),
        pytest.param(synthesis(text="a" * 16_385), INVALID, "TEXT_TOO_LONG", id="too much text"),
        pytest.param(synthesis(audio=None), INVALID, "UNSUPPORTED_AUDIO_FORMAT", id="no format"),
        pytest.param(synthesis(voice=NOBODYS), StatusCode.NOT_FOUND, "VOICE_NOT_FOUND", id="a voice nobody has"),
        pytest.param(chat(), INVALID, "EMPTY_CONVERSATION", id="a chat without messages"),
        pytest.param(
            chat(chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="你好 " * 4_000)),
            INVALID, "PROMPT_TOO_LONG", id="a chat longer than the context",
        ),
        pytest.param(voice(), StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED", id="a voice without consent"),
        pytest.param(
            lambda channel: voice_pb2_grpc.VoiceServiceStub(channel).DeleteVoice(
                voice_pb2.DeleteVoiceRequest(voice_id="Tingting")
            ),
            StatusCode.FAILED_PRECONDITION, "VOICE_IS_BUILT_IN", id="a built-in voice to be deleted",
        ),
        pytest.param(
            lambda channel: session_pb2_grpc.SessionServiceStub(channel).GetSession(
                session_pb2.GetSessionRequest(session_id="nobody")
            ),
            StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", id="a session nobody has",
        ),
        pytest.param(
            lambda channel: session_pb2_grpc.SessionServiceStub(channel).ListTurns(
                session_pb2.ListTurnsRequest(session_id="nobody", page_token="made up")
            ),
            INVALID, "INVALID_PAGE_TOKEN", id="a page nobody gave",
        ),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_served_says_why(system: LiveSystem, call: Call, code: StatusCode, reason: str) -> None:
    async def refused() -> ApiError:
        async with grpc.aio.insecure_channel(system.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel)
        return ApiError.from_call(caught.value)

    held(asyncio.run(refused()), code, reason)
