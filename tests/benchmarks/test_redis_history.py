"""The judge of the store's log accepts what a right store does, and finds every breach."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from benchmarks.redis_history import History, watched
from services.local.redis import RedisServer, is_installed
from services.orchestrator.adapters.redis import scripts
from services.orchestrator.adapters.redis.connect import Connection, ConnectionLimits
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Origin, Outcome, TurnMetrics
from services.orchestrator.ports.store import KeptTurn, NewSession, Progress, StreamFormats
from services.shared.errors import SessionTakenOverError

TURN = KeptTurn(1, Origin.TEXT, 'Say "hello"\n', "你好", Outcome.COMPLETED, 0.0, 1.0, TurnMetrics())
NEW = NewSession("t", "s", StreamFormats("pcm16", 16_000, "pcm16", 24_000), Options(), (), {}, 0.0, 60)
KEYS = ("stepaudio:{t/s}:session", "stepaudio:{t/s}:turns", "stepaudio:{t/s}:tokens")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if not is_installed():
        pytest.skip("the Redis server is in the extra `local`")
    made = RedisServer(tmp_path)
    try:
        asyncio.run(made.await_ready(timeout_s=30))
        yield made
    finally:
        made.stop()


@pytest.mark.integration
def test_the_log_of_a_session_that_changes_hands_is_its_history(server: RedisServer) -> None:
    async def main() -> None:
        clients = [Redis(port=server.port, client_name=name, protocol=2) for name in ("a", "b")]
        one, two = (RedisSessionStore(Connection(it, ConnectionLimits()), clock=time.time) for it in clients)
        async with watched(server.port) as history:
            old = await one.create(NEW, owner="a", token_digest="d")
            await one.commit_turn(old, TURN)
            new = (await two.resume("t", "s", owner="b", token_digest="d")).lease
            with pytest.raises(SessionTakenOverError):
                await one.renew(old, Progress(1, 1, 1, attached=True))
            with pytest.raises(SessionTakenOverError):
                await one.commit_turn(old, replace(TURN, number=2))
            await two.commit_turn(new, replace(TURN, number=2))
            kept = [turn.decode() for turn in await clients[0].execute_command("LRANGE", KEYS[1], 0, -1)]
        history.check_kept("stepaudio:{t/s}", kept)
        for client in clients:
            await client.aclose()
        assert history.problems == []
        found = history.sessions["stepaudio:{t/s}"]
        assert (found.fence, found.owners, found.refused, found.taken) == (2, ["a", "b"], 2, 2)
        assert found.turns == kept
        assert len(kept) == 2
        history.check_kept("stepaudio:{t/s}", kept[:1])
        assert "1 turns are kept, and 2 were committed" in history.problems[0]

    asyncio.run(main())


def script(client: str, name: str, *arguments: str) -> str:
    digest = getattr(scripts, name).digest
    return line(client, "EVALSHA", digest, "3", *KEYS, "1.0", "1", "195.0", *arguments)


def line(client: str, *words: str) -> str:
    return f"+1.5 [0 {client}] " + " ".join(f'"{word}"' for word in words)


def lua(*words: str) -> str:
    return line("lua", *words)


BEGUN = [
    line("c1", "CLIENT", "SETNAME", "a"),
    line("c2", "CLIENT", "SETNAME", "b"),
    script("c1", "CREATE", "a", "d"),
    lua("HSET", KEYS[0], "fence", "1"),
    script("c1", "COMMIT_TURN", "1", "1", "one", "100"),
    lua("RPUSH", KEYS[1], "one"),
]
RESUMED = [script("c2", "RESUME", "b", "d"), lua("HINCRBY", KEYS[0], "fence", "1")]
BREACHES = {
    "taken with fence 1, and 2 is the newest": [*RESUMED, script("c1", "RENEW", "1", "1"), lua("HSET", KEYS[0], "x")],
    "taken from a, and b owns it": [*RESUMED, script("c1", "RENEW", "2", "1"), lua("HSET", KEYS[0], "x", "y")],
    "taken with fence 7, and 1 is the newest": [script("c1", "RENEW", "7", "1"), lua("HSET", KEYS[0], "x", "y")],
    "a connection of b took it for a": [script("c2", "RESUME", "a", "d"), lua("HINCRBY", KEYS[0], "fence", "1")],
    "turn 1 was kept as the 2th": [script("c1", "COMMIT_TURN", "1", "1", "x", "9"), lua("RPUSH", KEYS[1], "x")],
    "DEL changed committed turns": [script("c1", "RENEW", "1", "1"), lua("DEL", *KEYS)],
    "LSET changed committed turns": [script("c1", "COMMIT_TURN", "1", "1"), lua("LSET", KEYS[1], "0", "x")],
    "RPUSH changed committed turns": [script("c1", "RENEW", "1", "1"), lua("RPUSH", KEYS[1], "x")],
    "wrote stepaudio:{t/s}:turns by itself: LTRIM": [line("c1", "LTRIM", KEYS[1], "1", "-1")],
    "an unknown script": [line("c1", "EVALSHA", "0" * 40, "1", KEYS[0]), lua("HSET", KEYS[0], "x", "y")],
    "it had fence 1": [script("c1", "CREATE", "a", "d"), lua("HSET", KEYS[0], "fence", "1")],
}


@pytest.mark.unit
@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_found_and_named(breach: str) -> None:
    history = History()
    for text in [*BEGUN, *BREACHES[breach]]:
        history.feed(text.encode() + b"\r\n")
    history.finish()
    assert any(breach in problem for problem in history.problems), history.problems


@pytest.mark.unit
def test_a_right_history_has_no_breach_and_refused_writes_are_counted() -> None:
    history = History()
    refused = [script("c1", "RENEW", "1", "1"), lua("HGET", KEYS[0], "fence")]
    over = [script("c2", "END", "2", "60.0", "600.0"), lua("DEL", *KEYS), lua("HSET", KEYS[0], "gone", "ended")]
    for text in [*BEGUN, *RESUMED, *refused, *over, line("c1", "LRANGE", KEYS[1], "0", "-1"), "no line of a log"]:
        history.feed(text.encode() + b"\r\n")
    history.finish()
    assert history.problems == []
    assert history.refused == 1
    assert history.sessions["stepaudio:{t/s}"].turns == []
