"""A child ends when it is told to, with all it started, and when its parent dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.local.processes import ChildProcess, session_memory_bytes
from services.local.record import ServerRecord, birth_ticks, read_record, remove_record, write_record

pytestmark = pytest.mark.unit


def start(tmp_path: Path, script: str) -> ChildProcess:
    return ChildProcess("child", ["/bin/sh", "-c", script], environment=os.environ, log=tmp_path / "child.log")


def await_that(holds: Callable[[], bool]) -> None:
    """Wait for it; the test's own timeout ends a wait without end."""
    while not holds():
        time.sleep(0.02)


def test_a_child_that_ignores_the_request_to_end_is_ended(tmp_path: Path) -> None:
    child = start(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    await_that(lambda: "deaf" in child.log.read_text())
    child.stop(grace_s=0.1)
    assert not child.is_running


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    child = start(tmp_path, "sleep 1000 & echo $!; wait")
    await_that(lambda: child.log.read_text().strip().isdigit())
    grandchild = int(child.log.read_text())
    assert birth_ticks(grandchild) is not None
    child.stop(grace_s=1)
    assert birth_ticks(grandchild) is None


def test_what_a_child_says_and_how_it_ends_is_known(tmp_path: Path) -> None:
    child = start(tmp_path, "echo the port is taken >&2; exit 3")
    await_that(lambda: not child.is_running)
    assert child.exit_code == 3
    assert child.log.read_text() == "the port is taken\n"
    child.stop(grace_s=1)


LEAVER = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen(['/bin/sleep', '1000'], process_group=0)\n"  # in a group of its own, as Ray's workers are
    "print(os.getpid(), child.pid, flush=True); time.sleep(1000)"
)


def pids_of(log: Path) -> list[int]:
    """The two numbers that `LEAVER` says first."""
    await_that(lambda: len(log.read_text().split()) == 2)
    return [int(word) for word in log.read_text().split()]


def test_a_kept_child_that_is_killed_takes_along_what_has_left_its_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = ChildProcess("c", [sys.executable, "-c", LEAVER], environment=os.environ, log=log, keep=True)
    itself, leaver = pids_of(log)
    os.kill(itself, signal.SIGKILL)
    await_that(lambda: not child.is_running)
    assert birth_ticks(leaver) is None
    assert child.exit_code == 128 + signal.SIGKILL


def test_a_kept_child_is_asked_before_the_rest_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    child = ChildProcess("c", ["/bin/sh", "-c", script], environment=os.environ, log=log, keep=True)
    await_that(lambda: "ready" in log.read_text())
    child.stop(grace_s=30)
    assert log.read_text() == "ready\nasked\n"
    assert child.exit_code == 0


def test_a_kept_child_and_what_has_left_its_group_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import os, sys, time; from pathlib import Path; from services.local.processes import ChildProcess\n"
        f"command, log = [sys.executable, '-c', {LEAVER!r}], Path({str(log)!r})\n"
        "child = ChildProcess('c', command, environment=os.environ, log=log, keep=True)\n"
        "print(child.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        keeper = int(parent.stdout.readline())
        itself, leaver = pids_of(log)
        parent.send_signal(signal.SIGKILL)
    for pid in (keeper, itself, leaver):
        await_that(lambda: birth_ticks(pid) is None)  # noqa: B023  # asked before the loop goes on


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, time; from pathlib import Path; from services.local.processes import ChildProcess\n"
        f"log = Path({str(tmp_path)!r}) / 'log'\n"
        "child = ChildProcess('c', ['/bin/sleep', '1000'], environment=os.environ, log=log)\n"
        "print(child.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        command = Path(f"/proc/{child}/cmdline")
        await_that(lambda: command.read_bytes().startswith(b"/bin/sleep"))
        parent.send_signal(signal.SIGKILL)
    await_that(lambda: birth_ticks(child) is None)


def test_the_memory_of_a_session_is_that_of_all_its_processes() -> None:
    holds = "held = bytearray(b'1') * (40 << 20); print('held', flush=True); sys.stdin.read()"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {('import sys; ' + holds)!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", both], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"held\n"
        assert 40 * 2**20 < session_memory_bytes(leader.pid) < 120 * 2**20
        assert leader.stdin is not None
        leader.stdin.close()


def test_a_record_is_read_back_while_its_writer_lives(tmp_path: Path) -> None:
    server = ServerRecord("lm", 1, "127.0.0.1:1", "127.0.0.1:2", "x.log")
    write_record(tmp_path, (server,), ready=True)
    record = read_record(tmp_path)
    assert record is not None
    assert (record.pid, record.ready, record.servers) == (os.getpid(), True, (server,))
    remove_record(tmp_path)
    assert read_record(tmp_path) is None


def test_the_record_of_a_dead_launcher_counts_as_none_even_if_its_number_is_used_again(tmp_path: Path) -> None:
    write_record(tmp_path, (), ready=True)
    path = tmp_path / "running.json"
    path.write_text(path.read_text().replace('"born": ', '"born": 1'))
    assert read_record(tmp_path) is None
