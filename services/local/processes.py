"""One child process, from its birth to a certain end.

A child leads its own process group, so that it ends with everything it started; and the kernel tells it when this
process dies, however that happens. Start children from the main thread: the kernel watches the thread.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_TETHER: Final = Path(__file__).with_name("tether.py")
_POLL_S: Final = 0.05


class ChildProcess:
    """A running child.

    Attributes:
        name: for people, and of its log.
        log: file with its standard output and error.
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        """Start it; `command` begins with the path of a program."""
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(_TETHER), str(os.getpid()), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, minus the signal's number where one ended it; None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Ask it to end, and return."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self, *, grace_s: float) -> None:
        """Ask it to end, and after `grace_s` end it and all it started."""
        self.ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._signal(signal.SIGKILL)  # the leader may have ended and left others of its group
        self._process.wait()
        while _group_exists(self.pid):
            time.sleep(_POLL_S)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def group_memory_bytes(group: int) -> int:
    """Memory of all processes of a group, shared pages divided among those that share them."""
    total_kib = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text()
                total_kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (ProcessLookupError, FileNotFoundError):
            continue
    return total_kib * 1024


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
