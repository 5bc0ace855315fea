"""One child process, from its birth to a certain end.

A child leads a session of its own, so that it ends with everything it started; and the kernel tells it when this
process dies, however that happens. Start children from the main thread: the kernel watches the thread.

    tether.py  the kernel kills the child; enough where its own children notice that
    keeper.py  a process beside the child, which then kills the rest; for children whose processes would stay
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.local.keeper import end_session, session_members

_TETHER: Final = Path(__file__).with_name("tether.py")
_KEEPER: Final = Path(__file__).with_name("keeper.py")


class ChildProcess:
    """A running child.

    Attributes:
        name: for people, and of its log.
        log: file with its standard output and error.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path, keep: bool = False
    ) -> None:
        """Start it.

        Args:
            name: for people.
            command: it begins with the path of a program.
            environment: all of it.
            log: file for its standard output and error, made anew.
            keep: its processes would outlive it when it is killed: a keeper ends them.
        """
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(_KEEPER if keep else _TETHER), str(os.getpid()), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also its session's."""
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
        end_session(self.pid)  # the leader may have ended and left others
        self._process.wait()


def session_memory_bytes(session: int) -> int:
    """Memory of all processes of a session, shared pages divided among those that share them."""
    total_kib = 0
    for pid in session_members(session):
        with suppress(ProcessLookupError, FileNotFoundError):  # it has ended meanwhile
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total_kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kib * 1024
