"""How a conversation's stream ends over a real grpc.aio server: by a status, by a limit, by a client that leaves."""

import asyncio

import grpc
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2
from services.orchestrator.conversation import outputs
from services.shared.errors import SessionEndedError, SessionTakenOverError
from tests.orchestrator.ingress.serving import (
    END,
    INCIDENT,
    Request,
    Response,
    converse,
    read_refusal,
    reads,
    refusal_of,
    refused_conversation,
    run,
    serving,
    silence,
    start,
)

pytestmark = pytest.mark.contract


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


async def _read_all(call: grpc.aio.StreamStreamCall[Request, Response]) -> None:
    async for _ in reads(call):
        pass


async def _until(holds: object) -> None:
    assert callable(holds)
    while not holds():
        await asyncio.sleep(0.005)
