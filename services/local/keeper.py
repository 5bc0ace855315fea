"""Keeps a command whose processes leave its group, and ends all of them: `python keeper.py PARENT COMMAND …`.

    parent ──SIGTERM──> keeper ──SIGTERM──> command     and once the command has ended, by itself or not,
    parent dies ──────> keeper ──SIGKILL──> command     every process of the session is killed

Ray starts its workers in process groups of their own, and its agents outlive a raylet that was killed; none of them
leaves the session. If the keeper itself is killed, the kernel kills the command.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_TETHER = Path(__file__).with_name("tether.py")
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05


def session_members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, of_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found.append(int(folder.name))
    return found


def end_session(session: int) -> None:
    """Kill every process of a session but this one, and return when none is left."""
    while members := set(session_members(session)) - {os.getpid()}:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def _keep(parent: int, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the tie held
        return 1
    child = subprocess.Popen([sys.executable, "-IS", str(_TETHER), str(os.getpid()), *command])
    signal.signal(
        signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM if os.getppid() == parent else signal.SIGKILL)
    )
    code = child.wait()
    end_session(os.getsid(0))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(_keep(int(sys.argv[1]), sys.argv[2:]))
