"""Replies of a scripted server: what is played, acknowledged, and thrown away."""

import asyncio

import pytest

from protos.gen.stepaudio.v1 import events_pb2, options_pb2
from stepaudio import Conversation
from tests.client.conftest import SlowPlayer, Waits, run
from tests.client.talk import kinds, until
from tests.fakes.server import ScriptedServer, ScriptedStream, tone

pytestmark = pytest.mark.unit


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
