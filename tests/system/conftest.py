"""The whole system as people start it, once for all tests that ask; where one stops it, the next gets a new one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("tritonclient", reason="the messages of Triton are in the extra `serving`")
pytest.importorskip("ray", reason="Ray is in the extra `orchestrator`")

from benchmarks.live_system import LiveSystem
from services.local.triton import is_installed

RESUME_WINDOW_S = 45
"""Longer than a replica takes to be started again on a busy machine."""


@dataclass
class _Running:
    system: LiveSystem | None = None


@pytest.fixture(scope="session")
def running() -> Iterator[_Running]:
    running = _Running()
    yield running
    if running.system is not None:
        running.system.down()


@pytest.fixture
def system(running: _Running, tmp_path_factory: pytest.TempPathFactory) -> LiveSystem:
    if not is_installed():
        pytest.skip("the Triton server is in the extra `local`")
    if running.system is None or not running.system.is_up:
        # All steps in the first passes too, as offline: what is said is compared with the offline pipeline's.
        settings = {"STEPAUDIO_RESUME_WINDOW_S": str(RESUME_WINDOW_S), "STEPAUDIO_FIRST_FLOW_STEPS": "10"}
        running.system = LiveSystem(tmp_path_factory.mktemp("system"), settings)
        running.system.up()
    return running.system
