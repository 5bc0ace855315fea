"""All processes of the local system: started together, ready together, stopped together.

start   Redis, Triton and Ray at once ─> each gives a right answer ─> the record says ready
watch   one that ends, which nobody asked for, is started again at its old address, after a wait that grows
stop    all of them, whatever state they are in: those that ask others first

What ends before all is ready is a fault of the installation: it is shown, and nothing is started again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from services.local.orchestrator import OrchestratorServer
from services.local.orchestrator import remove_leftovers as remove_links
from services.local.processes import ChildProcess
from services.local.readiness import await_ready
from services.local.record import ORCHESTRATOR, ServerRecord, check_nothing_runs, remove_record, write_record
from services.local.redis import RedisServer
from services.local.settings import LocalSettings
from services.local.triton import Ports, TritonServer, assemble_backend, free_ports, remove_leftovers
from services.shared.errors import InvalidOptionError, MissingFileError, StepAudioError
from services.shared.triton.specs import POOLS

REDIS: Final = "redis"
_WATCH_S: Final = 0.2
_WAITS_S: Final = 0.2, 30.0
"""First and longest wait before a server is started again; each wait is twice the one before."""
_STEADY_S: Final = 60.0
"""A server that ran for so long has begun well, and the next wait is the first one again."""
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
        """End it and what it has left."""


_Kind = TypeVar("_Kind", bound=Server)


class LocalSystem:
    """The servers of one run folder."""

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
        self._all: dict[str, Server] = {}
        self._makers: dict[str, Callable[[], Server]] = {}
        self._has_begun = False

    @property
    def servers(self) -> Mapping[str, Server]:
        """The rooms that run, by pool, in the order of speech."""
        return {pool: self._all[pool] for pool in self._pools if pool in self._all}

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
        """Start again whatever ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._all:
                group.create_task(self._keep_running(name))

    async def restart(self, name: str) -> None:
        """Start a server again that has ended, with the ports it had, and wait until it works.

        Args:
            name: of its pool, or what it is. Its log so far is kept beside the new one, as `<log>.1`.

        Raises:
            RoomUnavailableError, DeadlineExceededError, StepAudioError: it ended again, or never gave a right answer.
        """
        ended = self._all[name]
        ended.stop()  # processes that it started may have stayed
        ended.process.log.replace(f"{ended.process.log}.1")
        self._all[name] = self._makers[name]()
        self._write(ready=True)
        await self._await(name)

    def stop(self) -> None:
        """Stop everything that was started; it may be called at any time, also twice."""
        self._stop(ORCHESTRATOR)  # while those that it asks still answer
        for server in self._all.values():
            server.process.ask_to_end()
        for name in list(self._all):
            self._stop(name)
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
            self._begin(pool, partial(TritonServer, pool, backend, self._settings, taken))
        if not self._rooms_only:
            redis = self._begin(REDIS, partial(RedisServer, folder, port=ports.pop()))
            rooms = {pool: server.address for pool, server in self.servers.items()}
            taken_by_api = ports.pop(), ports.pop()
            self._begin(
                ORCHESTRATOR,
                partial(OrchestratorServer, self._settings, rooms=rooms, redis_url=redis.url, ports=taken_by_api),
            )

    def _begin(self, name: str, make: Callable[[], _Kind]) -> _Kind:
        """Start a server, and remember how it is started."""
        self._makers[name] = make
        server = self._all[name] = make()
        return server

    async def _keep_running(self, name: str) -> None:
        wait_s, longest_s = _WAITS_S
        while True:
            process, begun_s = self._all[name].process, time.monotonic()
            while process.is_running:
                await asyncio.sleep(_WATCH_S)
            if time.monotonic() - begun_s > _STEADY_S:
                wait_s = _WAITS_S[0]
            self._notify(f"{process.name} ended with {process.exit_code}; it is started again in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, longest_s)
            try:
                await self.restart(name)
            except StepAudioError as error:
                self._notify(str(error))

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
