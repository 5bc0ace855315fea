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


def test_a_server_that_dies_is_started_again_where_it_was(launcher: Launcher) -> None:
    process, record = launcher.in_foreground()
    before = record.servers[0]
    os.kill(before.pid, signal.SIGKILL)
    assert process.stdout is not None
    said = [next(line for line in process.stdout if "ended" in line), next(process.stdout)]
    assert said[0].strip() == "triton-lm ended with -9; it is started again in 0.2 s"
    assert said[1].startswith(f"lm answers at {before.address} after")
    now = read_record(launcher.folder)
    assert now is not None
    assert now.servers[0].address == before.address
    assert now.servers[0].pid != before.pid
    assert session_members(before.pid) == []
    assert "successfully loaded" in Path(f"{before.log}.1").read_text()
    assert launcher.run("status").returncode == 0
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert survivors(now) == []


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
