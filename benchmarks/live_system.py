"""The whole local system for tests and measurements: started by its own launcher, from a run folder of its own.

It knows what people do to a system from outside: start it, look at its metrics, kill a part of it, stop it.
"""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.local.keeper import session_members
from services.local.processes import session_memory_bytes
from services.local.record import ORCHESTRATOR, RunRecord, ServerRecord, read_record
from services.local.settings import ROOT

REPLICA: Final = "replica"
"""The process that serves callers: a worker of Ray's, which Serve starts again."""
_REPLICA_TITLE: Final = b"ray::ServeReplica"
_LAUNCHER: Final = (sys.executable, "-m", "services.local")
_COMMAND_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True)
class LiveSystem:
    """One system.

    Attributes:
        folder: its run folder.
        settings: STEPAUDIO_* variables by name.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m services.local` with these arguments."""
        environment = {**os.environ, **self.settings, "STEPAUDIO_RUN_FOLDER": str(self.folder)}
        return subprocess.run(
            [*_LAUNCHER, *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
        )

    def up(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with what it said."""
        done = self.command("up", "--detach")
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def down(self) -> None:
        """Stop it if it runs."""
        self.command("down")

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return read_record(self.folder) is not None

    @property
    def record(self) -> RunRecord:
        """What runs now; the pid of a server changes when it is started again. Raises RuntimeError if nothing does."""
        record = read_record(self.folder)
        if record is None:
            raise RuntimeError(f"no system runs from {self.folder}")
        return record

    @property
    def address(self) -> str:
        """Where callers speak to it."""
        address = self.record.api_address
        assert address is not None  # all of it was started
        return address

    def server(self, name: str) -> ServerRecord:
        """One of its servers."""
        return next(server for server in self.record.servers if server.name == name)

    def pid(self, name: str) -> int:
        """Process of a server, or of the replica. Raises ProcessLookupError while there is no replica."""
        if name != REPLICA:
            return self.server(name).pid
        for pid in session_members(self.server(ORCHESTRATOR).pid):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_REPLICA_TITLE):
                return pid
        raise ProcessLookupError("no replica runs")

    def kill(self, name: str) -> None:
        """Kill a server, or the replica, without a word to it."""
        os.kill(self.pid(name), signal.SIGKILL)

    def metric(self, name: str, series: str) -> float:
        """A value of a server's /metrics, e.g. `stepaudio_orchestrator_open_sessions`."""
        with urllib.request.urlopen(f"http://{self.server(name).metrics}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{series} ")))

    def memory_bytes(self) -> dict[str, int]:
        """Memory of each server with all its processes."""
        return {server.name: session_memory_bytes(server.pid) for server in self.record.servers}
