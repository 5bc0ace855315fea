"""Streams that a scripted server cuts or leaves: what is resumed, sent again, and raised in the end."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import conversation_pb2, events_pb2, options_pb2, tools_pb2
from stepaudio import ApiError, Conversation
from tests.client.conftest import SlowPlayer, Waits, run
from tests.client.talk import kinds, until
from tests.fakes.server import CUT, DRAINING, Failure, ScriptedServer, ScriptedStream, forever, tone

pytestmark = pytest.mark.unit


async def lost_in_mid_reply(stream: ScriptedStream) -> None:
    await stream.start_session()
    await stream.receive_audio(6400)
    await stream.send(input_released=events_pb2.InputReleased(before_sample=1280))
    await stream.begin_reply(1)
    await stream.send_audio(1, 0, tone(2400))
    await stream.receive("session_update")
    await stream.fail(CUT)


def test_a_resume_says_of_which_turn_the_end_is_known() -> None:
    async def cut_after_a_turn(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.end_reply(1, 0)
        await stream.begin_reply(2)
        await stream.fail(CUT)

    async def resumed(stream: ScriptedStream) -> None:
        assert (await stream.resume_session()).ended_turn == 1
        await stream.send(turn=2, turn_ended=events_pb2.TurnEnded())
        await stream.fail(CUT)

    async def again(stream: ScriptedStream) -> None:
        assert (await stream.resume_session()).ended_turn == 2

    async def main() -> None:
        async with (
            ScriptedServer(cut_after_a_turn, resumed, again) as server,
            Conversation(server.address, retry=Waits().retry()) as conversation,
        ):
            assert (await kinds(conversation))[-1] == "session_started"

    run(main())


def test_a_stream_cut_in_mid_reply_is_resumed_and_the_missing_audio_sent_again() -> None:
    async def resumed(stream: ScriptedStream) -> None:
        resume = await stream.resume_session(next_input_sample=3000)
        assert (resume.session_id, resume.resume_token) == ("session-1", "token-1")
        assert resume.received_sequence == 5
        assert (resume.playback.turn, resume.playback.played_samples) == (1, 2400)
        await stream.send(turn=1, reply_resumed=events_pb2.ReplyResumed(first_sample=2400, text="It rains."))
        await stream.send_audio(1, 2400, tone(240))
        await stream.end_reply(1, 2640)
        await stream.receive("end_of_input")

    player, waits = SlowPlayer(), Waits()

    async def main() -> list[conversation_pb2.ConverseRequest]:
        async with (
            ScriptedServer(lost_in_mid_reply, resumed) as server,
            Conversation(server.address, player=player, retry=waits.retry()) as conversation,
        ):
            await conversation.send_audio(np.zeros(6400, np.float32))
            await until(conversation, "reply_audio")
            player.play(player.pending)
            await conversation.update(options_pb2.SessionOptions())
            assert (await until(conversation, "session_started")).session_started.resumed
            await conversation.end_input()
            assert await kinds(conversation) == ["reply_resumed", "reply_audio", "reply_ended", "turn_ended"]
            assert conversation.session.resume_token == "token-2"
            return server.streams[1].received

    received = run(main())

    again = [message.audio.first_sample for message in received if message.HasField("audio")]
    assert again == list(range(2560, 6400, 640))  # the chunk that holds sample 3000 is the first
    assert sum(message.HasField("session_update") for message in received) == 1, "it was never answered"
    assert len(player.written) == 2640
    assert player.cleared == 0


def test_what_the_player_holds_is_played_on_and_counts_as_heard() -> None:
    async def resumed(stream: ScriptedStream) -> None:
        resume = await stream.resume_session(next_input_sample=6400)
        assert resume.playback.played_samples == 2400
        await stream.send(turn=1, reply_resumed=events_pb2.ReplyResumed(first_sample=2400))
        await stream.send_audio(1, 1200, tone(2400))  # begins before: that part is not played twice

    player, waits = SlowPlayer(), Waits()

    class Still(Waits):
        async def sleep(self, duration_s: float) -> None:
            await asyncio.sleep(0.01)

    waits = Still()

    async def main() -> None:
        async with (
            ScriptedServer(lost_in_mid_reply, resumed) as server,
            Conversation(server.address, player=player, retry=waits.retry()) as conversation,
        ):
            await conversation.send_audio(np.zeros(6400, np.float32))
            await until(conversation, "reply_audio")
            await conversation.update(options_pb2.SessionOptions())
            await kinds(conversation)

    run(main())
    assert (len(player.written), player.cleared) == (3600, 0)


def test_a_server_that_goes_away_is_left_for_another_while_the_old_stream_is_open() -> None:
    old_ended = asyncio.Event()

    async def leaving(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.send(go_away=events_pb2.GoAway(time_left_ms=5000, resumable=True))
        try:
            await forever(stream)
        finally:
            old_ended.set()

    async def taking_over(stream: ScriptedStream) -> None:
        await stream.receive("resume")
        assert not old_ended.is_set()
        stream.received.clear()
        await stream.send(session_started=events_pb2.SessionStarted(resumed=True))
        await stream.receive("end_of_input")

    waits = Waits()

    async def main() -> list[str]:
        async with (
            ScriptedServer(leaving, taking_over) as server,
            Conversation(server.address, retry=waits.retry()) as conversation,
        ):
            await until(conversation, "go_away")
            await conversation.end_input()
            told = await kinds(conversation)
            await old_ended.wait()
            return told

    assert run(main()) == ["session_started"]
    assert waits.asked_s == []


def test_a_server_that_dies_and_comes_back_is_spoken_to_again() -> None:
    async def first(stream: ScriptedStream) -> None:
        await stream.start_session()
        await forever(stream)

    async def second(stream: ScriptedStream) -> None:
        await stream.resume_session()
        await stream.receive("end_of_input")

    async def main() -> list[str]:
        async with ScriptedServer(first) as dying:
            address = dying.address
            conversation = await stack.enter_async_context(Conversation(address))
            await until(conversation, "session_started")
        async with ScriptedServer(second, port=int(address.rpartition(":")[2])), stack:
            await conversation.end_input()
            return await kinds(conversation)

    stack = AsyncExitStack()
    assert run(main()) == ["session_started"]


async def speak_on(conversation: Conversation) -> None:
    while True:
        await conversation.send_audio(np.zeros(64, np.float32))
        await asyncio.sleep(0)


def test_audio_streamed_while_the_stream_fails_does_not_hide_why() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive_audio(1280)
        await stream.fail(Failure(grpc.StatusCode.ABORTED, "SESSION_TAKEN_OVER"))

    async def main() -> None:
        async with ScriptedServer(script) as server, Conversation(server.address) as conversation:
            with pytest.raises(ApiError, match="SESSION_TAKEN_OVER"):
                await speak_on(conversation)

    run(main())


def test_turns_in_writing_are_sent_again_until_their_reply_has_begun() -> None:
    async def first(stream: ScriptedStream) -> None:
        await stream.start_session()
        answered = await stream.receive("text_turn")
        await stream.begin_reply(1, answered.request_id)
        await stream.receive("say")
        await stream.fail(CUT)

    async def second(stream: ScriptedStream) -> None:
        await stream.resume_session()
        await stream.receive("end_of_input")

    async def main() -> tuple[str, list[conversation_pb2.ConverseRequest]]:
        async with (
            ScriptedServer(first, second) as server,
            Conversation(server.address, retry=Waits().retry()) as conversation,
        ):
            await conversation.send_text("Does it rain?")
            await until(conversation, "reply_text")
            request_id = await conversation.say("One moment.")
            await conversation.end_input()
            await kinds(conversation)
            return request_id, server.streams[1].received

    request_id, received = run(main())
    assert [message.WhichOneof("message") for message in received] == ["resume", "say", "end_of_input"]
    assert received[1].say.request_id == request_id


def test_a_tool_call_asked_for_again_after_a_resume_is_not_run_twice() -> None:
    call = tools_pb2.ToolCall(call_id="call-1", name="weather", arguments_json="{}")
    requested = events_pb2.ToolCallRequested(call=call, client_runs=True)

    async def first(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.send(turn=1, tool_call_requested=requested)
        await stream.receive("tool_result")
        await stream.fail(CUT)

    async def second(stream: ScriptedStream) -> None:
        await stream.resume_session()
        await stream.send(turn=1, tool_call_requested=requested)
        assert (await stream.receive("tool_result")).output == "rain"
        await stream.send(turn=1, tool_call_ended=events_pb2.ToolCallEnded(call_id="call-1"))

    async def main() -> list[str]:
        async with (
            ScriptedServer(first, second) as server,
            Conversation(server.address, retry=Waits().retry()) as conversation,
        ):
            await until(conversation, "tool_call_requested")
            await conversation.answer(tools_pb2.ToolResult(call_id="call-1", output="rain"))
            return await kinds(conversation)

    assert run(main()) == ["session_started", "tool_call_ended"]


def test_a_resume_is_tried_until_its_window_is_over() -> None:
    async def first(stream: ScriptedStream) -> None:
        await stream.start_session(resume_window_ms=3000)
        await stream.fail(CUT)

    async def refusing(stream: ScriptedStream) -> None:
        await stream.receive("resume")
        await stream.fail(DRAINING)

    class Clock(Waits):
        async def sleep(self, duration_s: float) -> None:
            await super().sleep(1.0)

        def now_s(self) -> float:
            return float(len(self.asked_s))

    clock = Clock()

    async def main() -> None:
        scripts = [first, *[refusing] * 9]
        async with (
            ScriptedServer(*scripts) as server,
            Conversation(server.address, retry=clock.retry(), clock=clock.now_s) as conversation,
        ):
            with pytest.raises(ApiError) as failed:
                await kinds(conversation)
            assert failed.value.reason == "DRAINING"
            assert len(server.streams) == 4
            with pytest.raises(ApiError):
                await conversation.send_text("Is anyone there?")

    run(main())


def test_a_session_that_cannot_be_resumed_ends_with_its_error() -> None:
    async def first(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.fail(Failure(grpc.StatusCode.ABORTED, "SESSION_TAKEN_OVER", metadata={"session_id": "session-1"}))

    async def main() -> ApiError:
        async with ScriptedServer(first) as server, Conversation(server.address) as conversation:
            with pytest.raises(ApiError) as failed:
                await kinds(conversation)
            assert len(server.streams) == 1
            return failed.value

    error = run(main())
    assert (error.code, error.reason, error.retryable) == (grpc.StatusCode.ABORTED, "SESSION_TAKEN_OVER", False)
    assert error.details == {"session_id": "session-1"}


def test_a_client_without_a_player_acknowledges_by_itself() -> None:
    async def first(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(2400))
        assert (await stream.receive("playback_ack")).played_samples == 1200
        await stream.fail(CUT)

    async def second(stream: ScriptedStream) -> None:
        assert (await stream.resume_session()).playback.played_samples == 1200

    async def main() -> None:
        async with (
            ScriptedServer(first, second) as server,
            Conversation(server.address, retry=Waits().retry()) as conversation,
        ):
            await until(conversation, "reply_audio")
            await conversation.acknowledge(1, 1200)
            await kinds(conversation)

    run(main())
