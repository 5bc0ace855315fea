"""Conversations over a real grpc.aio server: what a client sends is heard, and what happens is told."""

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, options_pb2, session_pb2, tools_pb2
from services.orchestrator.conversation import events, outputs
from services.orchestrator.conversation.record import Origin, Outcome, TurnRecord
from services.shared.errors import GenerationError, TooManyWaitingTurnsError
from tests.orchestrator.ingress.serving import (
    END,
    Request,
    Response,
    converse,
    read_status,
    reads,
    refused_conversation,
    run,
    serving,
    silence,
    start,
)

pytestmark = pytest.mark.contract


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
            responses = [response async for response in reads(call)]
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
            responses = [response async for response in reads(call)]
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


def test_a_chunk_with_nan_has_no_effect() -> None:
    async def test() -> None:
        float32 = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_FLOAT32, sample_rate_hz=16_000)
        data = np.full(320, np.nan, "<f4").tobytes()
        async with serving() as served:
            chunk = Request(audio=audio_pb2.AudioChunk(data=data))
            responses = await converse(served, [start(input_audio=float32), chunk, END])
            assert read_status(responses[1].error.status).reason == "NON_FINITE_AUDIO"

    run(test)


def _update(**voice: object) -> Request:
    options = options_pb2.SessionOptions(voice=options_pb2.VoiceOptions(**voice))  # type: ignore[arg-type]  # fields
    return Request(session_update=conversation_pb2.SessionUpdate(options=options))
