"""What the whole system takes, what its commands say of it, and that nothing outlives its launcher, killed here."""

import os
import signal
import time

import pytest

from benchmarks.live_system import LiveSystem
from services.local.keeper import session_members
from services.local.record import RunRecord

pytestmark = pytest.mark.integration

MOST_BYTES = 4 * 2**30


def survivors(record: RunRecord) -> list[int]:
    """Processes of the servers' sessions that still run."""
    return [pid for server in record.servers for pid in session_members(server.pid)]


def test_the_system_tells_where_and_how_it_is_and_fits_its_memory(system: LiveSystem) -> None:
    assert system.command("address").stdout.strip() == system.address == system.record.servers[0].address
    status = system.command("status")
    assert status.returncode == 0, status.stdout
    assert [line.split()[0] for line in status.stdout.splitlines()] == [
        "orchestrator", "redis", "tokenizer", "lm", "tts", "vocoder", "together"
    ]  # fmt: skip
    assert sum(system.memory_bytes().values()) < MOST_BYTES


def test_nothing_outlives_a_killed_launcher(system: LiveSystem) -> None:
    record = system.record
    assert len(survivors(record)) > len(record.servers)
    os.kill(record.pid, signal.SIGKILL)
    while survivors(record):  # the test's own timeout ends a wait without end
        time.sleep(0.1)
    assert system.command("status").returncode == 1
    assert system.command("address").returncode == 1
