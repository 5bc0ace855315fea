"""The generated client and server meet over grpc.aio: a conversation both ways, and an error with its details."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, conversation_pb2_grpc, events_pb2, session_pb2

pytestmark = pytest.mark.contract

Converse = conversation_pb2.ConverseRequest
Event = conversation_pb2.ConverseResponse
Context = grpc.aio.ServicerContext[AsyncIterator[Converse], AsyncIterator[Event]]
FORMAT = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=16000)
DETAILS = "grpc-status-details-bin"


class EchoingAgent(conversation_pb2_grpc.ConversationServiceServicer):
    """Replies to each chunk with itself; without a start it answers as an overloaded server."""

    async def Converse(  # noqa: N802  # the generated name
        self,
        request_iterator: AsyncIterator[Converse],
        context: Context,
    ) -> AsyncIterator[Event]:
        first = await anext(aiter(request_iterator))
        if first.WhichOneof("message") != "start":
            await refuse(context)
        yield Event(sequence=1, epoch=1, session_started=events_pb2.SessionStarted(session_id="s"))
        sequence = 1
        async for request in request_iterator:
            sequence += 1
            if request.WhichOneof("message") == "end_of_input":
                record = session_pb2.Turn(number=1, outcome=session_pb2.TURN_OUTCOME_COMPLETED)
                yield Event(sequence=sequence, turn=1, epoch=1, turn_ended=events_pb2.TurnEnded(record=record))
                return
            yield Event(sequence=sequence, turn=1, epoch=1, reply_audio=events_pb2.ReplyAudio(audio=request.audio))


async def refuse(context: Context) -> None:
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="no capacity is free")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="stepaudio"))
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2)))
    trailer = ((DETAILS, status.SerializeToString()),)
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, trailer)


def with_agent(talk: Callable[[conversation_pb2_grpc.ConversationServiceStub], Awaitable[None]]) -> None:
    """Run a client's part against the echoing agent on a free port of this machine."""

    async def run() -> None:
        server = grpc.aio.server()
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(EchoingAgent(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await talk(conversation_pb2_grpc.ConversationServiceStub(channel))
        finally:
            await server.stop(None)

    asyncio.run(run())


def test_a_conversation_passes_both_ways_while_both_sides_are_open() -> None:
    async def talk(stub: conversation_pb2_grpc.ConversationServiceStub) -> None:
        call = stub.Converse()
        await call.write(Converse(start=conversation_pb2.SessionStart(input_audio=FORMAT, reply_audio=FORMAT)))
        events = [await call.read()]
        for first_sample in (0, 320):
            await call.write(Converse(audio=audio_pb2.AudioChunk(data=bytes(640), first_sample=first_sample)))
            events.append(await call.read())
        await call.write(Converse(end_of_input=conversation_pb2.EndOfInput()))
        events.append(await call.read())
        assert await call.read() is grpc.aio.EOF
        received = [event for event in events if isinstance(event, Event)]
        assert [event.sequence for event in received] == [1, 2, 3, 4]
        assert [event.WhichOneof("event") for event in received] == [
            "session_started",
            "reply_audio",
            "reply_audio",
            "turn_ended",
        ]
        assert received[2].reply_audio.audio.first_sample == 320
        assert await call.code() is grpc.StatusCode.OK

    with_agent(talk)


def test_an_error_brings_its_reason_and_when_to_try_again() -> None:
    async def talk(stub: conversation_pb2_grpc.ConversationServiceStub) -> None:
        call = stub.Converse()
        await call.write(Converse(audio=audio_pb2.AudioChunk(data=bytes(640))))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailer = dict(caught.value.trailing_metadata())[DETAILS]
        assert isinstance(trailer, bytes)
        status = status_pb2.Status.FromString(trailer)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(retry)
        assert (info.domain, info.reason, retry.retry_delay.seconds) == ("stepaudio", "OVERLOADED", 2)

    with_agent(talk)
