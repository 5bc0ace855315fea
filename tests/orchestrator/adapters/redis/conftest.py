"""The stores to be held to the contract: in memory, on a real server, and on a real node of a Cluster."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as LostConnectionError

from services.local.redis import RedisServer, free_port, is_installed
from services.orchestrator.adapters.redis.connect import connect
from services.orchestrator.adapters.redis.lifetime import SessionTimes
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.adapters.redis.voices import RedisVoiceStore
from services.orchestrator.ports.store import SessionStore, VoiceStore
from tests.fakes.store import FakeSessionStore, FakeVoiceStore, WallClock

Answer = TypeVar("Answer")
TIMES = SessionTimes(lease_s=15.0, resume_window_s=120.0, margin_s=60.0, tombstone_s=600.0)
MAX_TURNS = 20
MAX_VOICES = 3
KEEP_VOICE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores on one clock, and a tenant that no other test has."""

    sessions: SessionStore
    voices: VoiceStore
    clock: WallClock
    tenant: str = field(default_factory=lambda: f"tenant-{secrets.token_hex(8)}")


@dataclass(frozen=True, slots=True)
class World:
    """Where the stores are: in memory, or behind a URL."""

    url: str | None

    @asynccontextmanager
    async def stores(self) -> AsyncGenerator[Stores, None]:
        clock = WallClock()
        if self.url is None:
            sessions = FakeSessionStore(clock=clock, times=TIMES, max_turns=MAX_TURNS)
            yield Stores(sessions, FakeVoiceStore(clock=clock, max_voices=MAX_VOICES, keep_s=KEEP_VOICE_S), clock)
            return
        connection = connect(self.url)
        try:
            yield Stores(
                RedisSessionStore(connection, clock=clock, times=TIMES, max_turns=MAX_TURNS),
                RedisVoiceStore(connection, clock=clock, max_voices=MAX_VOICES, keep_s=KEEP_VOICE_S),
                clock,
            )
        finally:
            await connection.close()

    def run(self, scenario: Callable[[Stores], Awaitable[Answer]]) -> Answer:
        """Play a scenario on a loop of its own."""

        async def play() -> Answer:
            async with self.stores() as stores:
                return await scenario(stores)

        return asyncio.run(play())


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if not is_installed():
        pytest.skip("the Redis server is in the extra `local`")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        asyncio.run(server.await_ready(timeout_s=30))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Cluster of one node: it refuses every script whose keys are not in one slot."""
    if not is_installed():
        pytest.skip("the Redis server is in the extra `local`")
    directives = ("cluster-enabled yes", f"cluster-port {free_port()}", "cluster-announce-ip 127.0.0.1")
    server = RedisServer(tmp_path_factory.mktemp("cluster"), directives=directives)
    try:
        asyncio.run(_give_all_slots(server))
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["memory", "redis", "cluster"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return World(None)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return World(server.url)
    node: RedisServer = request.getfixturevalue("cluster_node")
    return World(node.url.replace("redis://", "redis+cluster://"))


async def _give_all_slots(server: RedisServer) -> None:
    client = Redis.from_url(server.url, protocol=2)
    try:
        await until_answers(server, lambda: client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383))
        while b"cluster_state:ok" not in await client.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.02)
    finally:
        await client.aclose()
    await server.await_ready(timeout_s=30)


async def until_answers(server: RedisServer, ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask a server that is being started until it answers; the test's own timeout ends a wait without end."""
    while True:
        server.check()
        try:
            return await ask()
        except LostConnectionError:
            await asyncio.sleep(0.02)
