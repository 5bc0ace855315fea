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
    assert session_memory_bytes(os.getsid(0)) > 10 * 2**20


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
