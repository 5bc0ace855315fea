"""Under Sentinel: the store is found by its service, and found again when another server has taken over."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.local.processes import ChildProcess
from services.local.redis import RedisServer, free_port, is_installed, server_binary
from services.orchestrator.adapters.redis.connect import ConnectionLimits, connect
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.shared.errors import RoomUnavailableError
from tests.fakes.store import WallClock
from tests.orchestrator.adapters.redis.values import new_session, turn

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Redis server is in the extra `local`"),
]

LIMITS = ConnectionLimits(connections=4, connect_s=0.2, answer_s=0.3, call_s=1.0, retries=3)


class Watched:
    """A master, a replica, and one Sentinel that watches them."""

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder, name="master", directives=("repl-diskless-sync-delay 0",))
        self.replica = RedisServer(folder, name="replica", directives=(f"replicaof 127.0.0.1 {self.master.port}",))
        self.port = free_port()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'dir "{folder}"',
            f"sentinel monitor orders 127.0.0.1 {self.master.port} 1",
            "sentinel down-after-milliseconds orders 300",
            "sentinel failover-timeout orders 3000",
        ]
        path = folder / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [str(server_binary()), str(path), "--sentinel"]
        self.sentinel = ChildProcess("sentinel", command, environment=os.environ, log=folder / "sentinel.log")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/orders"  # the first one is down

    async def await_ready(self) -> None:
        """The replica has all, and the Sentinel knows of it; the test's own timeout ends a wait without end."""
        await self.master.await_ready(timeout_s=30)
        await _until(self.replica.port, ["INFO", "replication"], b"master_link_status:up")
        await _until(self.port, ["INFO", "sentinel"], b"status=ok,address=127.0.0.1:%d,slaves=1" % self.master.port)

    def stop(self) -> None:
        self.sentinel.stop(grace_s=2)
        self.replica.stop()
        self.master.process.stop(grace_s=2)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    started = Watched(tmp_path)
    try:
        asyncio.run(started.await_ready())
        yield started
    finally:
        started.stop()


async def _until(port: int, command: list[str], part: bytes) -> None:
    while True:
        client = Redis(port=port, protocol=2, socket_timeout=1)
        client.response_callbacks.clear()
        try:
            if part in await client.execute_command(*command):
                return
        except RedisError:
            pass
        finally:
            await client.aclose()
        await asyncio.sleep(0.05)


def test_turns_are_there_and_new_ones_are_kept_after_a_fail_over(watched: Watched) -> None:
    async def scenario() -> None:
        connection = connect(watched.url, limits=LIMITS)
        store = RedisSessionStore(connection, clock=WallClock())
        lease = await store.create(new_session("tenant"), owner="one", token_digest="t1")
        await store.commit_turn(lease, turn(1))
        # a fail-over keeps what the replica has: WAIT is what a careful operator sets as min-replicas-to-write
        assert await connection.command("WAIT", 1, 5000) == 1
        os.kill(watched.master.process.pid, signal.SIGKILL)
        failures = 0
        while True:
            try:
                await store.commit_turn(lease, turn(2))
                break
            except RoomUnavailableError:
                failures += 1
        assert await store.turns("tenant", lease.session_id, after=0, limit=9) == (turn(1), turn(2))
        assert failures > 0
        await connection.close()

    asyncio.run(scenario())
