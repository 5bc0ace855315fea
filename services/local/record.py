"""What runs, written down for `status` and `down`: one file in the run folder, there while the system is up."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from services.shared.errors import InvalidOptionError

FILE: Final = "running.json"
ORCHESTRATOR: Final = "orchestrator"


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server.

    Attributes:
        name: of its pool of models, or what it is.
        pid: of the server, which leads its session of processes.
        address: of its service.
        metrics: address of its /metrics; empty without one.
        log: its log file.
    """

    name: str
    pid: int
    address: str
    metrics: str
    log: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A running system.

    Attributes:
        pid: of the process that started it and stops it.
        born: when that process began, in the kernel's ticks: a number given twice does not fool anyone.
        ready: whether every part has given its first right answer.
        servers: what it started, the one for callers first.
    """

    pid: int
    born: int
    ready: bool
    servers: tuple[ServerRecord, ...]

    @property
    def api_address(self) -> str | None:
        """Where callers speak to the system; None if only rooms run."""
        return next((server.address for server in self.servers if server.name == ORCHESTRATOR), None)

    @property
    def is_alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        return birth_ticks(self.pid) == self.born


def birth_ticks(pid: int) -> int | None:
    """When a process began; None if there is no such process. Field 22 of /proc/<pid>/stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def write_record(folder: Path, servers: tuple[ServerRecord, ...], *, ready: bool) -> None:
    """Write down that this process runs these servers."""
    born = birth_ticks(os.getpid())
    assert born is not None  # this process runs
    text = json.dumps(asdict(RunRecord(os.getpid(), born, ready, servers)), indent=2)
    beside = folder / f"{FILE}.new"
    beside.write_text(text, encoding="utf-8")
    beside.replace(folder / FILE)


def read_record(folder: Path) -> RunRecord | None:
    """The system that runs from this folder, or None; what a crashed one left behind counts as none."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    servers = tuple(ServerRecord(**server) for server in values["servers"])
    record = RunRecord(values["pid"], values["born"], values["ready"], servers)
    return record if record.is_alive else None


def check_nothing_runs(folder: Path) -> None:
    """Raise InvalidOptionError if a system runs from this folder."""
    if read_record(folder) is not None:
        raise InvalidOptionError(f"a system runs from {folder} already; stop it, or use another run folder")


def remove_record(folder: Path) -> None:
    """Nothing runs any more."""
    (folder / FILE).unlink(missing_ok=True)
