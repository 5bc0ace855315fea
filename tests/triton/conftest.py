"""The four servers of the nano checkpoint, started once for all tests that ask, and what their metrics say."""

import asyncio
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

pytest.importorskip("tritonclient", reason="the messages of Triton are in the extra `serving`")

from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import is_installed
from services.shared.triton import ModelSpec
from services.shared.triton.client import TritonClient
from tests.conftest import NANO

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Rooms:
    """The running servers."""

    system: LocalSystem

    def ask(self, pool: str, job: Callable[[TritonClient], Awaitable[Answer]]) -> Answer:
        """Run one job with a client of a pool, on a loop of its own."""

        async def connected() -> Answer:
            async with self.client(pool) as client:
                return await job(client)

        return asyncio.run(connected())

    @asynccontextmanager
    async def client(self, pool: str) -> AsyncGenerator[TritonClient, None]:
        async with TritonClient(self.system.servers[pool].address) as client:
            yield client

    def metric(self, spec: ModelSpec, what: str) -> float:
        """The value of the model's own metric, e.g. `open_requests` or `requests_total{outcome="ok"}`."""
        address = self.system.servers[spec.pool].metrics_address
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        name = f"stepaudio_{spec.name}_{what} "
        return float(next(line.removeprefix(name) for line in lines if line.startswith(name)))


_RUNNING: list[LocalSystem] = []


def shared_rooms(folders: pytest.TempPathFactory) -> Iterator[Rooms]:
    """All four pools, each after its first right answer: the same ones for every package of tests that asks."""
    if not is_installed():
        pytest.skip("the Triton server is in the extra `local`")
    if not _RUNNING:
        settings = LocalSettings(run_folder=folders.mktemp("triton"), checkpoints=NANO, engine="torch")
        _RUNNING.append(LocalSystem(settings, notify=lambda step: None))
        try:
            asyncio.run(_RUNNING[0].start())
        except BaseException:
            _RUNNING[0].stop()
            raise
    try:
        yield Rooms(_RUNNING[0])
    finally:
        _RUNNING[0].stop()


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    yield from shared_rooms(tmp_path_factory)
