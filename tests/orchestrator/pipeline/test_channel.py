"""A door never holds more than its capacity, keeps the order, and lets go of whoever is cancelled."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.pipeline.channel import Channel, ChannelClosedError
from tests.fakes.clock import run

pytestmark = pytest.mark.unit

LENGTHS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5), st.integers(0, 5)), max_size=30)


@given(LENGTHS, st.integers(100, 300))
def test_a_channel_never_exceeds_its_capacity_and_keeps_the_order(
    items: list[tuple[int, int, int]], capacity: int
) -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(capacity)
        taken: list[int] = []

        async def produce() -> None:
            for place, (length, pause, _) in enumerate(items):
                await asyncio.sleep(pause)
                await channel.put(place, length)
                assert channel.held_ms <= capacity
            channel.close()

        async def consume() -> None:
            async for place in channel:
                taken.append(place)
                assert channel.held_ms <= capacity
                await asyncio.sleep(items[place][2])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            tasks.create_task(consume())
        assert taken == list(range(len(items)))
        assert channel.held_ms == 0

    run(main())


def test_an_item_longer_than_the_channel_is_refused_instead_of_waiting_for_ever() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="does not fit"):
            await Channel[int](100).put(1, 101)

    run(main())


def test_a_cancelled_producer_leaves_without_its_item() -> None:
    async def main() -> None:
        channel: Channel[str] = Channel(100)
        await channel.put("first", 100)
        waiting = asyncio.ensure_future(channel.put("second", 1))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        channel.close()
        assert [item async for item in channel] == ["first"]

    run(main())


def test_a_cancelled_consumer_takes_nothing() -> None:
    async def main() -> None:
        channel: Channel[str] = Channel(100)
        waiting = asyncio.ensure_future(anext(channel))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        await channel.put("kept", 1)
        assert await anext(channel) == "kept"

    run(main())


def test_closing_wakes_a_waiting_producer_with_an_error() -> None:
    async def main() -> None:
        channel: Channel[str] = Channel(100)
        await channel.put("first", 100)
        waiting = asyncio.ensure_future(channel.put("second", 1))
        await asyncio.sleep(1)
        channel.close()
        with pytest.raises(ChannelClosedError):
            await waiting

    run(main())
