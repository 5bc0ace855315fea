"""The rooms behind their ports, once as fakes and once on the four running servers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pytest

from services.orchestrator.adapters.triton import Checkpoint, RoomAddresses, connect_rooms, read_checkpoint
from services.orchestrator.ports.rooms import Rooms
from services.shared.triton.specs import SPEAKER_ENCODER, SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS
from tests.conftest import NANO
from tests.fakes.rooms import FakeRooms
from tests.triton.conftest import Rooms as Servers
from tests.triton.conftest import shared_rooms

Answer = TypeVar("Answer")
Job = Callable[[Rooms], Awaitable[Answer]]


class World(Protocol):
    """Some rooms."""

    def run(self, job: Job[Answer]) -> Answer:
        """Run one job on a loop of its own; nothing of it may be open afterwards."""


class FakeWorld:
    def run(self, job: Job[Answer]) -> Answer:
        fakes = FakeRooms()

        async def on_a_loop() -> Answer:
            return await job(fakes.rooms)

        answer = asyncio.run(on_a_loop())
        assert fakes.live == {}
        return answer


@dataclass(frozen=True, slots=True)
class TritonWorld:
    servers: Servers
    checkpoint: Checkpoint

    @property
    def addresses(self) -> RoomAddresses:
        return RoomAddresses(**{pool: server.address for pool, server in self.servers.system.servers.items()})

    def run(self, job: Job[Answer]) -> Answer:
        async def connected() -> Answer:
            async with connect_rooms(self.addresses, self.checkpoint) as rooms:
                return await job(rooms.rooms)

        answer = asyncio.run(connected())
        asyncio.run(self.until_idle())
        return answer

    async def until_idle(self) -> None:
        """Wait until no work is open in any room."""
        async with asyncio.timeout(15):
            while any(self.open_work()):
                await asyncio.sleep(0.02)

    def open_work(self) -> tuple[float, ...]:
        return (
            self.servers.metric(SPEECH_TOKENIZER, "open_sequences"),
            self.servers.metric(STEP1_CHAT, "open_requests"),
            self.servers.metric(STEP1_TTS, "open_requests"),
        )

    def encoded_clips(self) -> float:
        return self.servers.metric(SPEAKER_ENCODER, 'requests_total{outcome="ok"}')


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from shared_rooms(tmp_path_factory)


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return read_checkpoint(NANO)


@pytest.fixture(scope="session")
def triton(servers: Servers, checkpoint: Checkpoint) -> TritonWorld:
    return TritonWorld(servers, checkpoint)


@pytest.fixture(params=["fake", "triton"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    on_servers: TritonWorld = request.getfixturevalue("triton")
    return on_servers
