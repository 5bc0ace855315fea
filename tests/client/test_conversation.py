"""A conversation against a scripted server: what is played, acknowledged, resumed, and raised."""

import asyncio
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import numpy as np
import pytest

from protos.gen.stepaudio.v1 import (
    audio_pb2,
    conversation_pb2,
    events_pb2,
    options_pb2,
    tools_pb2,
)
from services.shared.errors import InvalidOptionError, UnreadableAudioError, UnsupportedAudioFormatError
from stepaudio import ApiError, Conversation, ConversationEndedError, pcm16
from stepaudio import conversation as conversation_module
from tests.client.conftest import SlowPlayer, Waits, run
from tests.fakes.server import CUT, DRAINING, Failure, ScriptedServer, ScriptedStream, forever, tone

pytestmark = pytest.mark.unit

SPEECH = np.zeros(1600, np.float32)


async def kinds(events: AsyncIterable[Any]) -> list[str]:
    return [event.WhichOneof("event") async for event in events]


async def until(events: AsyncIterable[Any], kind: str) -> Any:
    async for event in events:
        if event.HasField(kind):
            return event
    raise AssertionError(f"no {kind}")


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


def test_a_reply_is_acknowledged_while_it_plays_and_when_the_player_is_dry() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(9600))
        acks: list[int] = []
        while not acks or acks[-1] < 9600:
            acks.append((await stream.receive("playback_ack")).played_samples)
        assert acks == [4800, 9600]
        await stream.end_reply(1, 9600)

    class Sleeper(Waits):
        async def sleep(self, duration_s: float) -> None:
            await super().sleep(duration_s)
            player.play(min(4800, player.pending))

    player, waits = SlowPlayer(), Sleeper()

    async def main() -> None:
        async with (
            ScriptedServer(script) as server,
            Conversation(server.address, player=player, retry=waits.retry()) as conversation,
        ):
            await kinds(conversation)

    run(main())
    assert all(0.1 <= wait_s <= 0.25 for wait_s in waits.asked_s)
    assert len(player.written) == 9600


def test_an_interruption_empties_the_player_and_tells_what_was_heard() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(4800))
        await stream.receive("session_update")  # the player has played a part
        await stream.send(turn=1, interrupted=events_pb2.Interrupted())
        while (ack := await stream.receive("playback_ack")).played_samples != 1000:
            pass
        assert ack.turn == 1
        await stream.send(turn=1, reply_resumed=events_pb2.ReplyResumed(first_sample=1000))
        await stream.send_audio(1, 1000, tone(480))
        await stream.end_reply(1, 1480)

    player = SlowPlayer()

    async def main() -> None:
        async with ScriptedServer(script) as server, Conversation(server.address, player=player) as conversation:
            await until(conversation, "reply_audio")
            player.play(1000)
            await conversation.update(options_pb2.SessionOptions())
            await until(conversation, "interrupted")
            assert (player.cleared, player.pending) == (1, 0)
            await kinds(conversation)

    run(main())
    assert len(player.written) == 4800 + 480


def test_a_client_that_interrupts_is_silent_at_once_and_plays_nothing_more_of_that_reply() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(2400))
        interrupt = await stream.receive("interrupt")
        assert (interrupt.playback.turn, interrupt.playback.played_samples) == (1, 400)
        await stream.send_audio(1, 2400, tone(2400))  # on its way already
        await stream.send(turn=1, interrupted=events_pb2.Interrupted())
        await stream.begin_reply(2)
        await stream.send_audio(2, 0, tone(240))

    player = SlowPlayer()

    async def main() -> None:
        async with ScriptedServer(script) as server, Conversation(server.address, player=player) as conversation:
            await until(conversation, "reply_audio")
            player.play(400)
            await conversation.interrupt()
            assert player.pending == 0
            await kinds(conversation)

    run(main())
    assert len(player.written) == 2400 + 240


def test_an_underrun_is_counted_and_told() -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(100))
        await stream.receive("session_update")
        await stream.send_audio(1, 100, tone(100))
        await stream.receive("end_of_input")

    player = SlowPlayer()

    async def main() -> int:
        async with ScriptedServer(script) as server, Conversation(server.address, player=player) as conversation:
            await until(conversation, "reply_audio")
            player.play(100)
            await conversation.update(options_pb2.SessionOptions())
            await until(conversation, "reply_audio")
            player.play(100)
            await asyncio.sleep(0)
            await conversation.interrupt()
            await conversation.end_input()
            await kinds(conversation)
            interrupt = next(m.interrupt for m in server.streams[0].received if m.HasField("interrupt"))
            return interrupt.playback.underruns

    assert run(main()) == 1


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
