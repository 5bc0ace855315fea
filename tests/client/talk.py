"""What tests of conversations read: the events of a stream."""

from collections.abc import AsyncIterable
from typing import Any


async def kinds(events: AsyncIterable[Any]) -> list[str]:
    return [event.WhichOneof("event") async for event in events]


async def until(events: AsyncIterable[Any], kind: str) -> Any:
    async for event in events:
        if event.HasField(kind):
            return event
    raise AssertionError(f"no {kind}")
