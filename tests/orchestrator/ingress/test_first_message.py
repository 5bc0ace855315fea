"""How a conversation begins over a real grpc.aio server: a start or a resume, and what is wrong with either."""

import asyncio

import grpc
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, chat_pb2, conversation_pb2, options_pb2, tools_pb2
from services.orchestrator.conversation import events
from services.orchestrator.conversation.record import Message, Role
from services.orchestrator.ports.store import NewSession, StreamFormats
from tests.orchestrator.ingress.serving import (
    END,
    OFFER,
    Behind,
    Request,
    converse,
    read_status,
    refusal_of,
    refused_conversation,
    run,
    serving,
    silence,
    start,
)

pytestmark = pytest.mark.contract


def test_a_session_starts_with_all_that_its_client_has_to_know() -> None:
    async def test() -> None:
        async with serving() as served:
            responses = await converse(served, [start(), END])
            assert [response.sequence for response in responses] == [1]
            started = responses[0].session_started
            assert started.session_id == "session-0"
            assert started.resume_token == "token-1"
            assert not started.resumed
            assert started.input_audio.sample_rate_hz == 16_000
            assert started.reply_audio.sample_rate_hz == 24_000
            assert started.options.voice.voice_id == "Fake"
            assert started.options.voice.speed == 1.0
            assert not started.options.voice.HasField("seed")
            assert len(started.capabilities.audio_encodings) == 5
            assert list(started.capabilities.endpointing_modes) == [1, 3]
            assert started.capabilities.limits.max_context_tokens == 4096
            assert not served.sessions.streams[0].attached

    run(test)


WRONG_STARTS = [
    (Request(), "INVALID_FIRST_MESSAGE", "message"),
    (silence(), "INVALID_FIRST_MESSAGE", "message"),
    (Request(start=conversation_pb2.SessionStart()), "UNSUPPORTED_AUDIO_FORMAT", "input_audio.encoding"),
    (
        start(input_audio=audio_pb2.AudioFormat(sample_rate_hz=7999)),
        "UNSUPPORTED_AUDIO_FORMAT",
        "input_audio.sample_rate_hz",
    ),
    (
        start(reply_audio=audio_pb2.AudioFormat(encoding=audio_pb2.AudioEncoding.ValueType(99))),
        "UNSUPPORTED_AUDIO_FORMAT",
        "reply_audio.encoding",
    ),
    (start(reply_chunk_ms=5), "UNSUPPORTED_AUDIO_FORMAT", "reply_chunk_ms"),
    (start(retention_s=-1), "INVALID_OPTION", "retention_s"),
    (start(greeting="x" * 4097), "TEXT_TOO_LONG", "greeting"),
    (start(labels={"": "x"}), "INVALID_INPUT", "labels"),
    (start(labels={str(key): "" for key in range(17)}), "INVALID_INPUT", "labels"),
    (start(history=[chat_pb2.ChatMessage(text="x")]), "INVALID_INPUT", "history[0].role"),
    (start(history=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER)]), "INVALID_INPUT", "history[0].content"),
    (
        start(history=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, tool_call=tools_pb2.ToolCall())]),
        "INVALID_INPUT",
        "history[0].tool_call.call_id",
    ),
    (
        start(options=options_pb2.SessionOptions(voice=options_pb2.VoiceOptions(speed=float("nan")))),
        "INVALID_OPTION",
        "options.voice.speed",
    ),
    (Request(resume=conversation_pb2.SessionResume()), "INVALID_INPUT", "resume.session_id"),
    (
        Request(resume=conversation_pb2.SessionResume(session_id="s", received_sequence=-1)),
        "INVALID_INPUT",
        "resume.received_sequence",
    ),
    (
        Request(resume=conversation_pb2.SessionResume(session_id="s", ended_turn=-1)),
        "INVALID_INPUT",
        "resume.ended_turn",
    ),
]


@pytest.mark.parametrize(("message", "reason", "field"), WRONG_STARTS, ids=lambda value: str(value)[:24])
def test_a_wrong_first_message_is_refused_by_field_and_begins_nothing(
    message: Request, reason: str, field: str
) -> None:
    async def test() -> None:
        async with serving() as served:
            refusal = await refused_conversation(served, [message])
            assert (refusal.reason, refusal.details["field"]) == (reason, field)
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert not served.sessions.streams

    run(test)


def test_a_first_message_that_does_not_come_or_comes_again_is_refused() -> None:
    async def test() -> None:
        async with serving() as served:
            assert (await refused_conversation(served, [])).reason == "INVALID_FIRST_MESSAGE"
            assert (await refused_conversation(served, [start(), start()])).reason == "INVALID_FIRST_MESSAGE"
            call = served.conversation.Converse()
            assert (await refusal_of(call.read())).reason == "INVALID_FIRST_MESSAGE"
            assert not any(stream.attached for stream in served.sessions.streams)

    run(test)


def test_a_stream_brings_the_trace_of_its_call() -> None:
    async def test() -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        async with serving() as served:
            resume = conversation_pb2.SessionResume(session_id="s")
            for first in (start(), Request(resume=resume)):
                call = served.conversation.Converse(iter([first, END]), metadata=(("traceparent", trace),))
                async for _ in call:
                    pass
            assert [served.sessions.started[0].traceparent, served.sessions.resumed[0].traceparent] == [trace, trace]

    asyncio.run(test())


def test_a_start_carries_history_greeting_labels_and_retention() -> None:
    async def test() -> None:
        history = [
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_SYSTEM, text="Be kind."),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="Hi"),
        ]
        async with serving() as served:
            await converse(
                served, [start(history=history, greeting="Good day.", labels={"a": "b"}, retention_s=0), END]
            )
            request = served.sessions.started[0]
        assert request.history == (Message(Role.SYSTEM, "Be kind."), Message(Role.USER, "Hi"))
        assert (request.greeting, dict(request.labels), request.retention_s) == ("Good day.", {"a": "b"}, 0)
        assert request.formats == StreamFormats("pcm16", 16_000, "pcm16", 24_000)
        assert request.tenant == "default"

    run(test)


def test_a_resume_may_leave_a_gap_up_to_now_and_a_longer_one_is_an_error_that_ends_nothing() -> None:
    async def test() -> None:
        behind = Behind()
        behind.sessions.resume_at, behind.sessions.resume_age_ms = 16_000, 600_000
        resume = Request(resume=conversation_pb2.SessionResume(session_id="s", resume_token="t"))
        beyond, now = 700 * 16_000, 599 * 16_000
        messages = [resume, silence(first_sample=beyond), silence(first_sample=now), silence(), END]
        async with serving(behind) as served:
            responses = await converse(served, messages)
        (refused,) = [response.error for response in responses if response.HasField("error")]
        assert read_status(refused.status).reason == "INVALID_INPUT"
        heard = [(len(samples), first) for samples, first in behind.sessions.streams[0].heard if len(samples)]
        assert heard == [(now - 16_000 + 320, 16_000), (320, now + 320)]

    run(test)


def test_a_resume_goes_on_counting_and_says_what_was_heard_in_the_vocoders_samples() -> None:
    async def test() -> None:
        behind = Behind()
        behind.sessions.resume_at = 16_000
        new = NewSession("default", "s", behind.sessions.formats, OFFER.defaults, (), {}, behind.clock(), 60)
        await behind.store.create(new, owner="a", token_digest="x")
        ack = conversation_pb2.PlaybackAck(turn=3, played_samples=38_400)
        resume = conversation_pb2.SessionResume(
            session_id="s", resume_token="t", received_sequence=57, playback=ack, ended_turn=2
        )
        async with serving(behind) as served:
            responses = await converse(served, [Request(resume=resume), silence(first_sample=0), silence(), END])
        assert responses[0].sequence == 58
        assert responses[0].session_started.next_input_sample == 16_000
        assert behind.sessions.resumed[0].playback == events.Playback(3, 35_280, 0)
        assert behind.sessions.resumed[0].ended_turn == 2
        heard = [(len(samples), first) for samples, first in behind.sessions.streams[0].heard if len(samples)]
        assert heard == [(320, 16_000)]  # what was heard before is dropped

    run(test)
