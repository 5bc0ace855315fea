"""All processes of the local system: started together, ready together, stopped together.

start   Redis, Triton and Ray at once ─> each gives a right answer ─> the record says ready
watch   until one of them ends, which nobody asked for
stop    all of them, whatever state they are in: those that ask others first
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from services.local.orchestrator import OrchestratorServer
from services.local.orchestrator import remove_leftovers as remove_links
from services.local.processes import ChildProcess
from services.local.readiness import await_ready
from services.local.record import ORCHESTRATOR, ServerRecord, check_nothing_runs, remove_record, write_record
from services.local.redis import RedisServer
from services.local.settings import LocalSettings
from services.local.triton import Ports, TritonServer, assemble_backend, free_ports, remove_leftovers
from services.shared.errors import InvalidOptionError, MissingFileError
from services.shared.triton.specs import POOLS

REDIS: Final = "redis"
_WATCH_S: Final = 0.5
_PORTS_OF_TRITON: Final = 3


class Server(Protocol):
    """What the system starts, watches and stops."""

    @property
    def process(self) -> ChildProcess:
        """The process that leads it."""

    @property
    def address(self) -> str:
        """Where it answers."""

    @property
    def metrics_address(self) -> str:
        """Where its /metrics is; empty without one."""

    def check(self) -> None:
        """Raise RoomUnavailableError if it has ended."""

    def stop(self) -> None:
        """End it."""


class LocalSystem:
    """The servers of one run folder.

    Attributes:
        servers: the rooms by pool, in the order of speech.
    """

    def __init__(
        self,
        settings: LocalSettings,
        *,
        notify: Callable[[str], None],
        pools: tuple[str, ...] = POOLS,
        rooms_only: bool = True,
    ) -> None:
        """Args: settings: where everything is. notify: told each step, for people. pools: those to start.
        rooms_only: without Redis and the orchestrator, which need all pools.
        """
        self._settings = settings
        self._notify = notify
        self._pools = pools
        self._rooms_only = rooms_only
        self.servers: dict[str, TritonServer] = {}
        self._all: dict[str, Server] = {}
        self._has_begun = False

    async def start(self) -> None:
        """Start everything and wait until all of it works.

        Raises:
            InvalidOptionError: a system runs from this folder already.
            MissingFileError: the checkpoints or the server are not there.
            RoomUnavailableError, DeadlineExceededError, StepAudioError: a server ended, or never gave a right answer.
        """
        folder = self._settings.run_folder
        if unknown := set(self._pools) - set(POOLS):
            raise InvalidOptionError(f"there is no pool {', '.join(sorted(unknown))}; there are {', '.join(POOLS)}")
        check_nothing_runs(folder)
        if not self._settings.checkpoints.is_dir():
            raise MissingFileError(f"{self._settings.checkpoints} is not a folder; give the folder of the checkpoints")
        folder.mkdir(parents=True, exist_ok=True)
        self._has_begun = True
        remove_leftovers()
        remove_links()
        self._start_servers(folder)
        self._write(ready=False)
        async with asyncio.TaskGroup() as group:
            for name in self._all:
                group.create_task(self._await(name))
        self._write(ready=True)

    async def watch(self) -> None:
        """Wait for a server to end; it never returns.

        Raises:
            RoomUnavailableError: one has ended; the message shows the end of its log.
        """
        while True:
            for server in self._all.values():
                server.check()
            await asyncio.sleep(_WATCH_S)

    def stop(self) -> None:
        """Stop everything that was started; it may be called at any time, also twice."""
        self._stop(ORCHESTRATOR)  # while those that it asks still answer
        for server in self._all.values():
            server.process.ask_to_end()
        for name in list(self._all):
            self._stop(name)
        self.servers.clear()
        if self._has_begun:  # else the record is another launcher's
            remove_record(self._settings.run_folder)

    def _start_servers(self, folder: Path) -> None:
        """Start all at once: what needs another waits for it."""
        backend = assemble_backend(folder / "backends")
        names = self._pools if self._rooms_only else (REDIS, *self._pools, ORCHESTRATOR)
        self._notify(f"starting {', '.join(names)}; logs are in {folder}")
        ports = free_ports(_PORTS_OF_TRITON * len(self._pools) + 3)
        for pool in self._pools:
            taken = Ports(*(ports.pop() for _ in range(_PORTS_OF_TRITON)))
            self._all[pool] = self.servers[pool] = TritonServer(pool, backend, self._settings, taken)
        if not self._rooms_only:
            redis = RedisServer(folder, port=ports.pop())
            self._all[REDIS] = redis
            rooms = {pool: server.address for pool, server in self.servers.items()}
            self._all[ORCHESTRATOR] = OrchestratorServer(
                self._settings, rooms=rooms, redis_url=redis.url, ports=(ports.pop(), ports.pop())
            )

    def _stop(self, name: str) -> None:
        if (server := self._all.pop(name, None)) is not None:
            server.stop()

    async def _await(self, name: str) -> None:
        server = self._all[name]
        seconds = await await_ready(name, server.address, timeout_s=self._settings.ready_timeout_s, check=server.check)
        self._notify(f"{name} answers at {server.address} after {seconds:.1f} s")

    def _write(self, *, ready: bool) -> None:
        order = {ORCHESTRATOR: 0, REDIS: 1}
        callers_first = sorted(self._all.items(), key=lambda item: order.get(item[0], len(order)))
        records = tuple(
            ServerRecord(
                name=name,
                pid=server.process.pid,
                address=server.address,
                metrics=server.metrics_address,
                log=str(server.process.log),
            )
            for name, server in callers_first
        )
        write_record(self._settings.run_folder, records, ready=ready)
