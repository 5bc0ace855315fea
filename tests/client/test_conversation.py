"""A conversation against a scripted server: how it starts, what is sent and told, how it is left."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, options_pb2, tools_pb2
from services.shared.errors import InvalidOptionError, UnreadableAudioError, UnsupportedAudioFormatError
from stepaudio import ApiError, Conversation, ConversationEndedError, pcm16
from stepaudio import conversation as conversation_module
from tests.client.conftest import SlowPlayer, Waits, run
from tests.client.talk import kinds, until
from tests.fakes.server import Failure, ScriptedServer, ScriptedStream, forever, tone

pytestmark = pytest.mark.unit
SPEECH = np.zeros(1600, np.float32)


async def one_reply(stream: ScriptedStream) -> None:
    await stream.start_session()
    turn = await stream.receive("text_turn")
    await stream.begin_reply(1, turn.request_id)
    await stream.send_audio(1, 0, tone(2400))
    await stream.send_audio(1, 2400, tone(2400))
    await stream.end_reply(1, 4800)
    await stream.receive("end_of_input")


def test_events_come_in_order_and_the_conversation_ends_with_the_stream() -> None:
    async def main() -> list[str]:
        async with ScriptedServer(one_reply) as server, Conversation(server.address) as conversation:
            assert conversation.session.session_id == "session-1"
            await conversation.send_text("Does it rain?")
            await conversation.end_input()
            told = await kinds(conversation)
            with pytest.raises(ConversationEndedError):
                await conversation.send_text("And now?")
            return told

    assert run(main()) == [
        "session_started", "reply_started", "reply_text", "reply_audio", "reply_audio", "reply_ended", "turn_ended",
    ]  # fmt: skip


def test_messages_arrive_in_the_order_said_with_formats_and_options_first() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("end_of_input")

    async def main() -> list[conversation_pb2.ConverseRequest]:
        start = conversation_pb2.SessionStart(greeting="Hello.")
        async with ScriptedServer(script) as server, Conversation(server.address, start) as conversation:
            await conversation.send_audio(SPEECH[:100])
            await conversation.send_audio(SPEECH)
            await conversation.end_turn()
            await conversation.say("One moment.", timing=conversation_pb2.REPLY_TIMING_AFTER_REPLY)
            await conversation.update(options_pb2.SessionOptions(system_prompt="Be brief."))
            await conversation.answer(tools_pb2.ToolResult(call_id="call", output="7"))
            await conversation.end_input()
            await kinds(conversation)
            return server.streams[0].received

    received = run(main())

    assert [message.WhichOneof("message") for message in received] == [
        "start", "audio", "audio", "audio", "end_of_turn", "say", "session_update", "tool_result", "end_of_input",
    ]  # fmt: skip
    assert received[0].start.greeting == "Hello."
    assert received[0].start.input_audio == pcm16(16000)
    chunks = [message.audio for message in received[1:4]]
    assert [chunk.first_sample for chunk in chunks] == [0, 640, 1280]
    assert [len(chunk.data) // 2 for chunk in chunks] == [640, 640, 420]


def test_audio_is_sent_at_most_a_second_and_a_half_ahead_of_real_time() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("end_of_input")

    async def main() -> list[float]:
        waits = Waits()
        async with (
            ScriptedServer(script) as server,
            Conversation(server.address, retry=waits.retry(), clock=lambda: 7.0) as conversation,
        ):
            await conversation.send_audio(np.zeros(2 * 16000, np.float32))
            await conversation.end_input()
            await kinds(conversation)
        return waits.asked_s

    waited_s = run(main())
    assert waited_s == pytest.approx([0.02 + 0.04 * n for n in range(13)])


def test_a_start_is_tried_again_where_the_server_says_so_and_then_raised() -> None:
    overloaded = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay_s=0.5)

    async def refuse(stream: ScriptedStream) -> None:
        await stream.fail(overloaded)

    waits = Waits()

    async def main() -> None:
        async with ScriptedServer(refuse, refuse, refuse) as server:
            with pytest.raises(ApiError, match="OVERLOADED"):
                async with Conversation(server.address, retry=waits.retry(max_attempts=3)):
                    raise AssertionError("it was not started")
            assert len(server.streams) == 3

    run(main())
    assert waits.asked_s == [0.5, 1.0]


def test_a_wrong_start_is_raised_at_once() -> None:
    async def refuse(stream: ScriptedStream) -> None:
        await stream.fail(
            Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_OPTION", metadata={"field": "options.voice.speed"})
        )

    async def main() -> ApiError:
        async with ScriptedServer(refuse) as server:
            with pytest.raises(ApiError) as failed:
                async with Conversation(server.address):
                    raise AssertionError("it was not started")
            return failed.value

    assert run(main()).details == {"field": "options.voice.speed"}


def test_leaving_early_interrupts_and_ends_the_input() -> None:
    ended = asyncio.Event()

    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.receive("interrupt")
        await stream.receive("end_of_input")
        ended.set()

    async def main() -> None:
        async with ScriptedServer(script) as server:
            async with Conversation(server.address) as conversation:
                await until(conversation, "reply_text")
            await ended.wait()

    run(main())


@pytest.mark.parametrize("how", ["error", "cancel"])
def test_leaving_by_an_error_or_cancellation_cuts_the_stream_and_passes_it_on(how: str) -> None:
    cut = asyncio.Event()

    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        try:
            await forever(stream)
        finally:
            cut.set()

    async def talk(address: str) -> None:
        async with Conversation(address) as conversation:
            await until(conversation, "session_started")
            if how == "error":
                raise KeyError("the application's own")
            await kinds(conversation)

    async def main() -> None:
        async with ScriptedServer(script) as server:
            if how == "error":
                with pytest.raises(KeyError):
                    await talk(server.address)
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await talk(server.address)
            await cut.wait()

    run(main())


def test_a_silent_client_keeps_its_stream() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session(max_idle_ms=20)
        await stream.receive("session_update")
        await stream.receive("session_update")

    async def main() -> None:
        async with ScriptedServer(script) as server, Conversation(server.address) as conversation:
            await kinds(conversation)

    run(main())


def test_events_of_a_newer_server_are_passed_over() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.send()

    async def main() -> list[str]:
        async with ScriptedServer(script) as server, Conversation(server.address) as conversation:
            return await kinds(conversation)

    assert run(main()) == ["session_started"]


def test_wrong_audio_is_refused_before_it_is_sent() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("end_of_input")

    async def main() -> None:
        async with ScriptedServer(script) as server, Conversation(server.address) as conversation:
            with pytest.raises(UnreadableAudioError, match="whole samples"):
                await conversation.send_audio(b"odd")
            await conversation.end_input()
            await kinds(conversation)

    run(main())


def test_formats_that_do_not_fit_the_client_are_refused_at_once() -> None:
    opus = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=48000)
    with pytest.raises(UnsupportedAudioFormatError, match="OPUS"):
        Conversation("127.0.0.1:1", conversation_pb2.SessionStart(input_audio=opus))
    with pytest.raises(UnsupportedAudioFormatError, match="OPUS"):
        Conversation("127.0.0.1:1", conversation_pb2.SessionStart(reply_audio=opus), player=SlowPlayer())
    with pytest.raises(InvalidOptionError, match="24000 Hz"):
        Conversation("127.0.0.1:1", conversation_pb2.SessionStart(reply_audio=pcm16(8000)), player=SlowPlayer())


def test_the_example_of_the_module_runs() -> None:
    async def main() -> int:
        async with ScriptedServer(one_reply) as server:
            example = (conversation_module.__doc__ or "").split("\n\n")[1]
            source = f"async def example(player):\n{example}".replace("127.0.0.1:50051", server.address)
            names: dict[str, Any] = {"Conversation": Conversation}
            exec(source, names)
            player = SlowPlayer()
            await names["example"](player)
            return len(player.written)

    assert run(main()) == 4800
