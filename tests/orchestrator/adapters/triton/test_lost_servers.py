"""A server that is killed mid-work: typed errors within the deadline, and all works again once it is back."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import is_installed
from services.orchestrator.adapters.triton import Checkpoint, RoomAddresses, RoomLimits, connect_rooms
from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, Rooms, Work
from services.shared.errors import RoomUnavailableError
from tests.conftest import NANO
from tests.fakes.rooms import group_of

pytestmark = pytest.mark.integration

NOISE = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
QUESTION = (ChatMessage(Role.USER, "What is the capital of Egypt?"),)
ENDLESS = GenerationOptions(max_new_tokens=2000, temperature=50.0, top_k=0, seed=1)
NOWHERE = "127.0.0.1:9"
GIVE_UP_S = 5.0
RECONNECT_S = 1.5
"""The longest pause between two attempts to connect, and a little more."""


class Mortals:
    """Servers of their own, which can be killed and started again on the same ports."""

    def __init__(self, folder: Path) -> None:
        self._settings = LocalSettings(run_folder=folder, checkpoints=NANO, engine="torch")
        self._system = LocalSystem(self._settings, notify=lambda step: None, pools=("tokenizer", "lm"))

    @property
    def addresses(self) -> RoomAddresses:
        servers = self._system.servers
        return RoomAddresses(servers["tokenizer"].address, servers["lm"].address, NOWHERE, NOWHERE)

    def start(self) -> None:
        asyncio.run(self._system.start())

    def stop(self) -> None:
        self._system.stop()

    def kill(self, pool: str) -> None:
        server = self._system.servers[pool]
        os.killpg(server.process.pid, signal.SIGKILL)
        server.stop()

    async def start_again(self, pool: str) -> None:
        await self._system.restart(pool)
        await asyncio.sleep(RECONNECT_S)


@pytest.fixture(scope="module")
def mortals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortals]:
    if not is_installed():
        pytest.skip("the Triton server is in the extra `local`")
    servers = Mortals(tmp_path_factory.mktemp("mortals"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


async def hear_all(rooms: Rooms) -> tuple[int, ...]:
    utterance = rooms.tokenizer.listen(Work())
    await utterance.push(NOISE)
    return await utterance.finish()


async def read_endless(rooms: Rooms, after_first: Callable[[], None]) -> None:
    pieces = rooms.chat.reply(QUESTION, ENDLESS, Work())
    await anext(pieces)
    after_first()
    async for piece in pieces:
        assert not piece.finish_reason


def test_an_utterance_outlives_its_tokenizer(mortals: Mortals, checkpoint: Checkpoint) -> None:
    async def job() -> None:
        async with connect_rooms(mortals.addresses, checkpoint, RoomLimits(hear_s=GIVE_UP_S)) as connected:
            rooms = connected.rooms
            wanted = await hear_all(rooms)
            utterance = rooms.tokenizer.listen(Work())
            await utterance.push(NOISE[:12_000])
            mortals.kill("tokenizer")
            async with asyncio.timeout(2 * GIVE_UP_S):
                with pytest.raises(RoomUnavailableError):
                    await utterance.push(NOISE[12_000:20_000])
            assert isinstance((await connected.check(timeout_s=GIVE_UP_S))["tokenizer"], RoomUnavailableError)
            await mortals.start_again("tokenizer")
            await utterance.push(NOISE[20_000:])
            assert await utterance.finish() == wanted
            found = await connected.check(timeout_s=GIVE_UP_S)
            assert (found["tokenizer"], found["lm"]) == (None, None)
            assert isinstance(found["vocoder"], RoomUnavailableError)

    asyncio.run(job())


def test_a_reply_ends_with_its_server_and_the_next_one_works(mortals: Mortals, checkpoint: Checkpoint) -> None:
    async def job() -> None:
        async with connect_rooms(mortals.addresses, checkpoint) as connected:
            rooms = connected.rooms
            async with asyncio.timeout(2 * GIVE_UP_S):
                with pytest.raises(RoomUnavailableError):
                    await read_endless(rooms, lambda: mortals.kill("lm"))
                with pytest.raises(RoomUnavailableError):
                    await rooms.chat.transcribe(group_of(1), Work())
            await mortals.start_again("lm")
            pieces = [piece async for piece in rooms.chat.reply(QUESTION, GenerationOptions(seed=1), Work())]
            assert pieces[-1].finish_reason == "stop"

    asyncio.run(job())
