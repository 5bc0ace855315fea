"""All processes of the local system: started together, ready together, stopped together.

start   every server at once ─> each gives a right answer ─> the record says ready
watch   until one of them ends, which nobody asked for
stop    all of them, whatever state they are in
"""

import asyncio
from collections.abc import Callable
from typing import Final

from services.local.readiness import await_ready
from services.local.record import ServerRecord, check_nothing_runs, remove_record, write_record
from services.local.settings import LocalSettings
from services.local.triton import TritonServer, assemble_backend, free_ports, remove_leftovers
from services.shared.errors import InvalidOptionError, MissingFileError
from services.shared.triton.specs import POOLS

_WATCH_S: Final = 0.5


class LocalSystem:
    """The servers of one run folder.

    Attributes:
        servers: by pool, in the order of speech.
    """

    def __init__(
        self, settings: LocalSettings, *, notify: Callable[[str], None], pools: tuple[str, ...] = POOLS
    ) -> None:
        """Args: settings: where everything is. notify: told each step, for people. pools: those to start."""
        self._settings = settings
        self._notify = notify
        self._pools = pools
        self.servers: dict[str, TritonServer] = {}
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
        backend = assemble_backend(folder / "backends")
        self._notify(f"starting {', '.join(self._pools)}; logs are in {folder}")
        for pool, ports in zip(self._pools, free_ports(len(self._pools)), strict=True):
            self.servers[pool] = TritonServer(pool, backend, self._settings, ports)
        self._write(ready=False)
        async with asyncio.TaskGroup() as group:
            for server in self.servers.values():
                group.create_task(self._await(server))
        self._write(ready=True)

    async def watch(self) -> None:
        """Wait for a server to end; it never returns.

        Raises:
            RoomUnavailableError: one has ended; the message shows the end of its log.
        """
        while True:
            for server in self.servers.values():
                server.check()
            await asyncio.sleep(_WATCH_S)

    def stop(self) -> None:
        """Stop everything that was started; it may be called at any time, also twice."""
        for server in self.servers.values():
            server.process.ask_to_end()
        for pool in list(self.servers):
            self.servers.pop(pool).stop()
        if self._has_begun:  # else the record is another launcher's
            remove_record(self._settings.run_folder)

    async def _await(self, server: TritonServer) -> None:
        seconds = await await_ready(server, timeout_s=self._settings.ready_timeout_s)
        self._notify(f"{server.pool} answers at {server.address} after {seconds:.1f} s")

    def _write(self, *, ready: bool) -> None:
        records = tuple(
            ServerRecord(
                pool=server.pool,
                pid=server.process.pid,
                address=server.address,
                metrics=server.metrics_address,
                log=str(server.process.log),
            )
            for server in self.servers.values()
        )
        write_record(self._settings.run_folder, records, ready=ready)
