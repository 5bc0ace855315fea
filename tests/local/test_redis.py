"""The embedded server: it is ready when it keeps what it is given, keeps it over a restart, and says why it ended."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.local.redis import RedisServer, is_installed
from services.shared.errors import RoomUnavailableError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Redis server is in the extra `local`"),
]

PASSWORD = 'a"b\\ c@:/%'


async def ask(url: str, *command: str) -> object:
    client = Redis.from_url(url, protocol=2)
    try:
        answer: object = await client.execute_command(*command)
        return answer
    finally:
        await client.aclose()


def test_it_keeps_what_was_written_when_it_is_killed_and_started_again(tmp_path: Path) -> None:
    first = RedisServer(tmp_path, password=PASSWORD)
    try:
        asyncio.run(first.await_ready(timeout_s=30))
        asyncio.run(ask(first.url, "SET", "key", "value"))
        os.kill(first.process.pid, signal.SIGKILL)
    finally:
        first.process.stop(grace_s=5)
    second = RedisServer(tmp_path, password=PASSWORD, port=first.port)
    try:
        asyncio.run(second.await_ready(timeout_s=30))
        assert second.url == first.url
        assert asyncio.run(ask(second.url, "GET", "key")) == b"value"
    finally:
        second.stop()
    assert not second.process.is_running


def test_nobody_comes_in_without_the_password_and_it_is_in_no_argument(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        asyncio.run(server.await_ready(timeout_s=30))
        with pytest.raises(RedisError):
            asyncio.run(ask(f"redis://{server.address}", "GET", "key"))
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert PASSWORD.encode() not in arguments
        assert (tmp_path / "redis" / "server.conf").stat().st_mode & 0o077 == 0
    finally:
        server.stop()


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    first = RedisServer(tmp_path, name="first")
    try:
        asyncio.run(first.await_ready(timeout_s=30))
        second = RedisServer(tmp_path, name="second", directives=("no-such-directive yes",))
        try:
            with pytest.raises(RoomUnavailableError, match="no-such-directive"):
                asyncio.run(second.await_ready(timeout_s=30))
        finally:
            second.process.stop(grace_s=0)
    finally:
        first.stop()
