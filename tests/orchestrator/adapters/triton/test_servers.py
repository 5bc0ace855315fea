"""Utterances are spread over the servers of a name, each stays where it is, and what is gone is closed."""

import asyncio
from collections.abc import Sequence

import pytest

from services.orchestrator.adapters.triton.servers import Servers, look_up
from services.shared.errors import RoomUnavailableError

pytestmark = pytest.mark.unit


class Names:
    """A name server and a clock."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.now_s = 100.0
        self.asked = 0

    async def resolve(self, address: str) -> Sequence[str]:
        assert address == "tokenizer:8001"
        self.asked += 1
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses

    def servers(self) -> Servers:
        return Servers("tokenizer:8001", resolve=self.resolve, clock=lambda: self.now_s)


def test_utterances_go_to_each_server_in_turn_and_share_its_connection() -> None:
    async def job() -> None:
        servers = Names("10.0.0.1:8001", "10.0.0.2:8001").servers()
        taken = [await servers.take() for _ in range(4)]
        assert taken[0] is taken[2] is not taken[1] is taken[3]
        assert {server.client.address for server in taken} == {"10.0.0.1:8001", "10.0.0.2:8001"}
        await servers.close()

    asyncio.run(job())


def test_an_utterance_that_lost_its_server_gets_another_one_if_there_is_one() -> None:
    async def job() -> None:
        names = Names("10.0.0.1:8001", "10.0.0.2:8001")
        servers = names.servers()
        for _ in range(4):
            lost = await servers.take()
            assert await servers.take(other_than=lost) is not lost
        names.addresses, names.now_s = ["10.0.0.1:8001"], 200.0
        only = await servers.take()
        assert await servers.take(other_than=only) is only
        await servers.close()

    asyncio.run(job())


def test_a_name_is_looked_up_again_after_a_while_and_an_answer_that_fails_keeps_the_last_one() -> None:
    async def job() -> None:
        names = Names("10.0.0.1:8001")
        servers = names.servers()
        first, _ = await servers.take(), await servers.take()
        assert names.asked == 1
        names.addresses, names.now_s = [], 200.0
        assert await servers.take() is first
        assert names.asked == 2
        await servers.close()

    asyncio.run(job())


def test_a_server_that_is_gone_is_kept_until_its_last_utterance_has_ended() -> None:
    async def job() -> None:
        names = Names("10.0.0.1:8001")
        servers = names.servers()
        old = await servers.take()
        names.addresses, names.now_s = ["10.0.0.2:8001"], 200.0
        new = await servers.take()
        assert new is not old
        assert servers.connected == {"10.0.0.1:8001", "10.0.0.2:8001"}
        await servers.leave(old)
        assert servers.connected == {"10.0.0.2:8001"}
        await servers.leave(new)
        assert servers.connected == {"10.0.0.2:8001"}
        await servers.close()
        assert servers.connected == set()

    asyncio.run(job())


def test_a_name_without_an_address_is_a_room_that_cannot_be_reached() -> None:
    async def job() -> None:
        with pytest.raises(RoomUnavailableError, match="tokenizer:8001"):
            await Names().servers().take()

    asyncio.run(job())


@pytest.mark.parametrize(("address", "found"), [("127.0.0.1:8001", ["127.0.0.1:8001"]), ("[::1]:8001", ["[::1]:8001"])])
def test_numeric_addresses_stand_for_themselves(address: str, found: list[str]) -> None:
    assert asyncio.run(look_up(address)) == found
