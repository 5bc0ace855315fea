"""The launcher as people run it: up, status, down; and that nothing outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.keeper import session_members
from services.local.processes import session_memory_bytes
from services.local.record import RunRecord, read_record
from services.local.triton import is_installed
from tests.conftest import NANO, ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Triton server is in the extra `local`"),
]

LAUNCHER = [sys.executable, "-m", "services.local"]


class Launcher:
    """`python -m services.local` on a run folder of its own."""

    def __init__(self, folder: Path, *, checkpoints: Path = NANO) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "STEPAUDIO_RUN_FOLDER": str(folder),
            "STEPAUDIO_CHECKPOINTS": str(checkpoints),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAUNCHER, *arguments], env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=200
        )

    def in_foreground(self) -> tuple[subprocess.Popen[str], RunRecord]:
        """`up` for one pool, once it is ready."""
        process = subprocess.Popen(
            [*LAUNCHER, "up", "--pool=lm"],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while (record := read_record(self.folder)) is None or not record.ready:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        return process, record


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.run("down")


def survivors(record: RunRecord) -> list[int]:
    """Processes of the servers' sessions that still run."""
    return [pid for server in record.servers for pid in session_members(server.pid)]


def test_up_status_and_down_leave_nothing(launcher: Launcher) -> None:
    up = launcher.run("up", "--detach", "--pool=lm")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "lm answers at 127.0.0.1:" in up.stdout
    record = read_record(launcher.folder)
    assert record is not None
    assert len(survivors(record)) >= 2  # the server and its model's process
    status = launcher.run("status")
    assert status.returncode == 0
    assert "works" in status.stdout
    for again in (launcher.run("up", "--pool=lm"), launcher.run("up", "--detach", "--pool=lm")):
        assert again.returncode == 1
        assert "runs from" in again.stderr
    assert launcher.run("down").stdout.strip() == "stopped"
    assert survivors(record) == []
    assert not list(Path("/dev/shm").glob(f"stepaudio_{record.pid}_*"))
    assert launcher.run("status").returncode == 1


def test_a_server_that_dies_ends_the_system_with_a_message(launcher: Launcher) -> None:
    process, record = launcher.in_foreground()
    os.kill(record.servers[0].pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "triton-lm ended with -9" in output
    assert survivors(record) == []


def test_a_launcher_that_is_killed_takes_its_servers_along(launcher: Launcher) -> None:
    process, record = launcher.in_foreground()
    process.kill()
    process.communicate()
    while survivors(record):  # the test's own timeout ends a wait without end
        time.sleep(0.1)


def test_checkpoints_that_are_not_there_are_named_at_once(tmp_path: Path) -> None:
    result = Launcher(tmp_path, checkpoints=tmp_path / "nothing").run("up", "--pool=lm")
    assert result.returncode == 1
    assert "nothing is not a folder" in result.stderr


def test_a_damaged_checkpoint_ends_the_start_with_the_rooms_own_message(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    result = Launcher(tmp_path / "run", checkpoints=tmp_path / "checkpoints").run("up", "--pool=lm")
    assert result.returncode == 1
    assert "MissingFileError" in result.stderr
    assert "Step-Audio-Chat is not a folder" in result.stderr


def test_the_whole_system_speaks_fits_its_memory_and_does_not_outlive_a_killed_launcher(launcher: Launcher) -> None:
    assert launcher.run("address").returncode == 1
    up = launcher.run("up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    record = read_record(launcher.folder)
    assert record is not None
    assert launcher.run("address").stdout.strip() == record.api_address == record.servers[0].address
    status = launcher.run("status")
    assert status.returncode == 0, status.stdout
    assert [line.split()[0] for line in status.stdout.splitlines()] == [
        "orchestrator", "redis", "tokenizer", "lm", "tts", "vocoder", "together"
    ]  # fmt: skip
    assert sum(session_memory_bytes(server.pid) for server in record.servers) < 4 * 2**30
    assert len(survivors(record)) > len(record.servers)
    os.kill(record.pid, signal.SIGKILL)
    while survivors(record):  # the test's own timeout ends a wait without end
        time.sleep(0.1)
    assert launcher.run("status").returncode == 1
