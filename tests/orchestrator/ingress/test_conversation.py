"""Conversations over a real grpc.aio server: what a client sends is heard, and what happens is told."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, chat_pb2, conversation_pb2, options_pb2, session_pb2, tools_pb2
from services.orchestrator.conversation import events, outputs
from services.orchestrator.conversation.record import Message, Origin, Outcome, Role, TurnRecord
from services.orchestrator.ports.store import NewSession, StreamFormats
from services.shared.errors import (
    GenerationError,
    SessionEndedError,
    SessionTakenOverError,
    TooManyWaitingTurnsError,
)
from tests.orchestrator.ingress.serving import (
    END,
    INCIDENT,
    OFFER,
    Behind,
    Request,
    Response,
    converse,
    read_refusal,
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


def test_audio_is_heard_in_order_and_once() -> None:
    async def test() -> None:
        async with serving() as served:
            await converse(served, [start(), silence(), silence(first_sample=320), silence(first_sample=320), END])
            heard = served.sessions.streams[0].heard
            assert [(len(samples), first) for samples, first in heard if len(samples)] == [(320, 0), (320, 320)]

    run(test)


def test_every_message_of_the_client_becomes_its_event() -> None:
    async def test() -> None:
        ack = conversation_pb2.PlaybackAck(turn=1, played_samples=24_000, underruns=1)
        after = conversation_pb2.REPLY_TIMING_AFTER_REPLY
        messages = [
            start(),
            Request(text_turn=conversation_pb2.TextTurn(request_id="a", text="Hello")),
            Request(say=conversation_pb2.Say(request_id="b", text="Wait.", timing=after)),
            Request(playback_ack=ack),
            Request(interrupt=conversation_pb2.Interrupt(playback=ack)),
            Request(interrupt=conversation_pb2.Interrupt()),
            silence(),
            Request(end_of_turn=conversation_pb2.EndOfTurn()),
            END,
        ]
        async with serving() as served:
            await converse(served, messages)
            told = served.sessions.streams[0].told
        playback = events.Playback(1, 22_050, 1)
        assert [number for _, number in told] == [2, 3, 4, 5, 6, 8, 9]
        kinds = [type(event).__name__ for event, _ in told]
        assert kinds == ["TextTurn", "Say", "Acknowledged", "Interrupt", "Interrupt", "EndOfTurn", "InputEnded"]
        text, say, acknowledged, interrupt, plain, end_of_turn, ended = (event for event, _ in told)
        assert isinstance(text, events.TextTurn)
        assert (text.request_id, text.text, text.timing) == ("a", "Hello", events.ReplyTiming.INTERRUPT)
        assert isinstance(say, events.Say)
        assert say.timing is events.ReplyTiming.AFTER_REPLY
        assert isinstance(acknowledged, events.Acknowledged)
        assert acknowledged.playback == playback
        assert isinstance(interrupt, events.Interrupt)
        assert interrupt.playback == playback
        assert isinstance(plain, events.Interrupt)
        assert plain.playback is None
        assert isinstance(end_of_turn, events.EndOfTurn)
        assert end_of_turn.end_sample == 320
        assert isinstance(ended, events.InputEnded)
        assert ended.end_sample == 320

    run(test)


def test_a_reply_is_told_in_the_clients_samples_without_gaps() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start(reply_chunk_ms=20))
            await call.read()
            stream = served.sessions.streams[0]
            stream.emit(outputs.ReplyStarted(Origin.TEXT, "a"), turn=1)
            stream.emit(outputs.ReplyText("Hello."), turn=1)
            for first in range(0, 22_050, 4410):
                samples = np.zeros(4410, np.float32)
                stream.emit(outputs.ReplyAudio(first, first + 4410, first // 4410 + 1, samples), turn=1)
            stream.emit(outputs.ReplyEnded(22_050, "Hello."), turn=1)
            record = TurnRecord(1, Origin.TEXT, "Hi", "Hello.", Outcome.COMPLETED, 0.0, 1.0)
            stream.emit(outputs.TurnEnded(record, 22_050), turn=1)
            await call.write(END)
            responses = [response async for response in _reads(call)]
        assert [response.sequence for response in responses] == list(range(2, 2 + len(responses)))
        audio = [response.reply_audio.audio for response in responses if response.HasField("reply_audio")]
        position = 0
        for chunk in audio:
            assert chunk.first_sample == position
            position += len(chunk.data) // 2
        assert {len(chunk.data) for chunk in audio[:-1]} == {2 * 480}
        assert position == 24_000
        kinds = [response.WhichOneof("event") for response in responses]
        assert kinds[:2] == ["reply_started", "reply_text"]
        assert kinds[-2:] == ["reply_ended", "turn_ended"]
        assert responses[-2].reply_ended.total_samples == 24_000
        assert responses[-1].turn_ended.heard_samples == 24_000
        assert responses[-1].turn_ended.record.outcome == session_pb2.TURN_OUTCOME_COMPLETED

    run(test)


def test_nothing_of_an_interrupted_reply_is_sent_and_a_resumed_one_goes_on_at_its_sample() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            stream = served.sessions.streams[0]
            samples = np.zeros(100, np.float32)  # shorter than a chunk: it waits
            stream.emit(outputs.ReplyStarted(Origin.SPEECH, ""), turn=1)
            stream.emit(outputs.ReplyAudio(0, 100, 1, samples), turn=1)
            stream.emit(outputs.Interrupted(outputs.InterruptionReason.CLIENT, 0), turn=1, epoch=2)
            stream.emit(outputs.ReplyResumed(22_050, "Hello.", Origin.SPEECH, ""), turn=1, epoch=2)
            stream.emit(outputs.ReplyAudio(22_050, 26_460, 6, np.zeros(4410, np.float32)), turn=1, epoch=2)
            stream.emit(outputs.ReplyEnded(26_460, "Hello."), turn=1, epoch=2)
            await call.write(END)
            responses = [response async for response in _reads(call)]
        kinds = [response.WhichOneof("event") for response in responses]
        assert kinds[:3] == ["reply_started", "interrupted", "reply_resumed"]
        assert responses[1].epoch == 2
        assert responses[2].reply_resumed.first_sample == 24_000
        assert responses[3].reply_audio.audio.first_sample == 24_000
        assert responses[-1].reply_ended.total_samples == 28_800

    run(test)


def test_a_failed_turn_tells_its_error_with_details() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            error = GenerationError("the model spoke no words")
            record = TurnRecord(1, Origin.TEXT, "Hi", "", Outcome.FAILED, 0.0, 1.0, error=error)
            served.sessions.streams[0].emit(outputs.TurnEnded(record, 0), turn=1)
            ended = await call.read()
            assert isinstance(ended, Response)
            refusal = read_status(ended.turn_ended.error)
            assert refusal.reason == "GENERATION_FAILED"
            assert refusal.retry_s == 0.5
            call.cancel()

    run(test)


MENDABLE = [
    (Request(text_turn=conversation_pb2.TextTurn(request_id="a")), "INVALID_TEXT", "text_turn.text"),
    (
        Request(text_turn=conversation_pb2.TextTurn(request_id="a", text="x" * 16_385)),
        "TEXT_TOO_LONG",
        "text_turn.text",
    ),
    (Request(text_turn=conversation_pb2.TextTurn(text="x")), "INVALID_INPUT", "text_turn.request_id"),
    (
        Request(text_turn=conversation_pb2.TextTurn(request_id="a" * 65, text="x")),
        "INVALID_INPUT",
        "text_turn.request_id",
    ),
    (Request(say=conversation_pb2.Say(request_id="a", text="!!")), "INVALID_TEXT", "say.text"),
    (Request(say=conversation_pb2.Say(request_id="a", text="x" * 4097)), "TEXT_TOO_LONG", "say.text"),
    (
        Request(playback_ack=conversation_pb2.PlaybackAck(played_samples=-1)),
        "INVALID_INPUT",
        "playback_ack.played_samples",
    ),
    (Request(tool_result=tools_pb2.ToolResult(call_id="c")), "INVALID_INPUT", "tool_result.outcome"),
    (Request(tool_result=tools_pb2.ToolResult(output="rain")), "INVALID_INPUT", "tool_result.call_id"),
    (
        Request(tool_result=tools_pb2.ToolResult(call_id="c", output="x" * 65_537)),
        "TEXT_TOO_LONG",
        "tool_result.output",
    ),
    (Request(tool_result=tools_pb2.ToolResult(call_id="c", error="x" * 4_097)), "TEXT_TOO_LONG", "tool_result.error"),
    (Request(), "INVALID_INPUT", "message"),
    (Request(audio=audio_pb2.AudioChunk(data=b"123")), "UNREADABLE_AUDIO", "audio.data"),
    (Request(audio=audio_pb2.AudioChunk()), "UNREADABLE_AUDIO", "audio.data"),
    (silence(first_sample=-1), "INVALID_INPUT", "audio.first_sample"),
]


@pytest.mark.parametrize(("message", "reason", "field"), MENDABLE, ids=lambda value: str(value)[:24])
def test_what_a_client_can_mend_is_an_error_event_and_has_no_effect(message: Request, reason: str, field: str) -> None:
    async def test() -> None:
        async with serving() as served:
            responses = await converse(served, [start(), message, END])
            stream = served.sessions.streams[0]
            assert [type(event).__name__ for event, _ in stream.told] == ["InputEnded"]
            assert not [samples for samples, _ in stream.heard if len(samples)]
        assert [response.WhichOneof("event") for response in responses] == ["session_started", "error"]
        assert responses[1].error.message_number == 2
        refusal = read_status(responses[1].error.status)
        assert (refusal.reason, refusal.details["field"]) == (reason, field)

    run(test)


def test_options_change_in_the_session_and_each_change_builds_on_the_one_before() -> None:
    async def test() -> None:
        async with serving() as served:
            responses = await converse(served, [start(), _update(speed=2.0), _update(volume=0.5), END])
            updated = [response.session_updated.options for response in responses[1:]]
            assert [(options.voice.speed, options.voice.volume) for options in updated] == [(2.0, 1.0), (2.0, 0.5)]

    run(test)


def test_an_update_with_an_unknown_voice_or_a_wrong_value_changes_nothing() -> None:
    async def test() -> None:
        async with serving() as served:
            messages = [start(), _update(voice_id="nobody"), _update(speed=9.0), _update(voice_id="Other"), END]
            responses = await converse(served, messages)
        kinds = [response.WhichOneof("event") or "" for response in responses[1:]]
        assert sorted(kinds) == ["error", "error", "session_updated"]
        reasons = {read_status(response.error.status).reason for response in responses if response.HasField("error")}
        assert reasons == {"VOICE_NOT_FOUND", "INVALID_OPTION"}

    run(test)


def test_more_than_twenty_mistakes_in_a_second_end_the_stream_with_the_last_one() -> None:
    async def test() -> None:
        async with serving() as served:
            twenty = [start(), *[Request()] * 20, END]
            assert len(await converse(served, twenty)) == 21
            refusal = await refused_conversation(served, [start(), *[Request()] * 20, _update(speed=9.0), END])
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert refusal.reason == "INVALID_OPTION"

    run(test)


def test_what_the_core_refuses_is_told_with_the_message_it_means() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            served.sessions.streams[0].emit(outputs.Refused(TooManyWaitingTurnsError("9 wait")), message_number=4)
            response = await call.read()
            assert isinstance(response, Response)
            assert response.error.message_number == 4
            assert read_status(response.error.status).reason == "TOO_MANY_WAITING_TURNS"
            call.cancel()

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


def test_what_ends_a_session_ends_its_stream_with_that_status() -> None:
    async def test() -> None:
        async with serving() as served:
            served.sessions.refusal = SessionEndedError("it can only be read", session_id="s")
            resume = Request(resume=conversation_pb2.SessionResume(session_id="s"))
            refusal = await refused_conversation(served, [resume])
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED")
            assert refusal.details == {"session_id": "s"}
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            served.sessions.streams[0].fail(SessionTakenOverError("a newer stream owns it"))
            with pytest.raises(grpc.aio.AioRpcError) as taken:
                await call.read()
            assert read_refusal(taken.value).reason == "SESSION_TAKEN_OVER"
            assert served.sessions.attached_streams == 0

    run(test)


def test_a_fault_of_the_servers_is_told_by_its_incident_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            served.sessions.streams[0].emit("no output at all")  # type: ignore[arg-type]  # a fault of the pipeline's
            with pytest.raises(grpc.aio.AioRpcError) as fault:
                await call.read()
            refusal = read_refusal(fault.value)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
            assert INCIDENT in refusal.message
            assert "str" not in refusal.message
        assert [record.incident for record in caplog.records if record.message == "unexpected_fault"] == [INCIDENT]  # type: ignore[attr-defined]  # an extra of the log

    run(test)


def test_a_message_of_more_than_a_mebibyte_is_too_large_and_one_of_four_meets_the_transport() -> None:
    async def test() -> None:
        async with serving() as served:
            large = Request(audio=audio_pb2.AudioChunk(data=bytes(1024 * 1024)))
            refusal = await refused_conversation(served, [start(), large])
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
            huge = Request(audio=audio_pb2.AudioChunk(data=bytes(4 * 1024 * 1024)))
            refusal = await refused_conversation(served, [start(), huge])
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def test_audio_faster_than_speech_ends_the_stream() -> None:
    async def test() -> None:
        async with serving() as served:
            refusal = await refused_conversation(served, [start(), *[silence(3200)] * 11])
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INPUT_TOO_FAST")

    run(test)


def test_a_chunk_with_nan_has_no_effect() -> None:
    async def test() -> None:
        float32 = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_FLOAT32, sample_rate_hz=16_000)
        data = np.full(320, np.nan, "<f4").tobytes()
        async with serving() as served:
            chunk = Request(audio=audio_pb2.AudioChunk(data=data))
            responses = await converse(served, [start(input_audio=float32), chunk, END])
            assert read_status(responses[1].error.status).reason == "NON_FINITE_AUDIO"

    run(test)


def test_closing_the_sending_side_ends_the_input_but_hanging_up_does_not() -> None:
    async def test() -> None:
        async with serving() as served:
            assert len(await converse(served, [start()])) == 1
            assert [type(event).__name__ for event, _ in served.sessions.streams[0].told] == ["InputEnded"]
            for _ in range(20):
                call = served.conversation.Converse()
                await call.write(start())
                await call.read()
                await call.write(silence())
                call.cancel()
            await _until(lambda: served.sessions.attached_streams == 0)
            assert not any(stream.told for stream in served.sessions.streams[1:])

    run(test)


def test_two_hundred_hang_ups_leave_no_session_and_no_task_behind() -> None:
    async def test() -> None:
        async with serving() as served:
            await converse(served, [start(), END])
            before = len(asyncio.all_tasks())
            for round_ in range(200):
                call = served.conversation.Converse()
                if round_ % 4:
                    await call.write(start())
                if round_ % 4 > 1:
                    await call.read()
                if round_ % 4 > 2:
                    await call.write(silence())
                call.cancel()
            await _until(lambda: served.sessions.attached_streams == 0)
            await _until(lambda: len(asyncio.all_tasks()) <= before + 1)
            assert served.admissions.open_count == {}

    run(test)


def test_a_client_that_reads_nothing_loses_its_stream_and_keeps_its_session() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            stream = served.sessions.streams[0]
            stream.ends_with_input = False
            for _ in range(40):
                stream.emit(outputs.ReplyText("x" * 1_000_000), turn=1)
            await _until(lambda: not stream.attached)
            assert (await refusal_of(_read_all(call))).reason == "SLOW_CONSUMER"

    run(test)


def _update(**voice: object) -> Request:
    options = options_pb2.SessionOptions(voice=options_pb2.VoiceOptions(**voice))  # type: ignore[arg-type]  # fields
    return Request(session_update=conversation_pb2.SessionUpdate(options=options))


async def _reads(call: grpc.aio.StreamStreamCall[Request, Response]) -> AsyncIterator[Response]:
    while (response := await call.read()) is not grpc.aio.EOF:
        assert isinstance(response, Response)
        yield response


async def _read_all(call: grpc.aio.StreamStreamCall[Request, Response]) -> None:
    async for _ in _reads(call):
        pass


async def _until(holds: object) -> None:
    assert callable(holds)
    while not holds():
        await asyncio.sleep(0.005)
