"""The door between two stages: a bounded channel whose capacity is stated in milliseconds of audio.

Each item says how long it is. A producer waits while its item does not fit, a consumer while there is none; the
channel never holds more than its capacity. Three ways to end:

    close()      no more items: the consumer takes what is there, then its iteration ends
    cancelling   a waiting producer leaves without its item, a waiting consumer without taking one
    the owner    of both sides is one TaskGroup: when it is left, nothing refers to the channel any more
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosedError(Exception):
    """A closed channel was given an item: a fault of the producer's."""


class Channel(Generic[T]):
    """One producer, one consumer, in order.

    Args:
        capacity_ms: of audio that may be inside.
    """

    def __init__(self, capacity_ms: float) -> None:
        self._capacity_ms = capacity_ms
        self._items: deque[tuple[T, float]] = deque()
        self._held_ms = 0.0
        self._closed = False
        self._has_room = asyncio.Event()
        self._has_item = asyncio.Event()

    @property
    def held_ms(self) -> float:
        """Audio inside."""
        return self._held_ms

    async def put(self, item: T, length_ms: float) -> None:
        """Add an item as soon as it fits.

        Raises:
            ValueError: it is longer than the whole channel and never fits.
            ChannelClosedError: the channel is closed.
        """
        if not 0 <= length_ms <= self._capacity_ms:
            raise ValueError(f"an item of {length_ms:.0f} ms does not fit into a channel of {self._capacity_ms:.0f} ms")
        while not self._closed and self._held_ms + length_ms > self._capacity_ms:
            self._has_room.clear()
            await self._has_room.wait()
        if self._closed:
            raise ChannelClosedError("the channel is closed")
        self._items.append((item, length_ms))
        self._held_ms += length_ms
        self._has_item.set()

    def close(self) -> None:
        """No more items come."""
        self._closed = True
        self._has_item.set()
        self._has_room.set()

    def __aiter__(self) -> "Channel[T]":
        return self

    async def __anext__(self) -> T:
        """Take the next item; the iteration ends when a closed channel is empty."""
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._has_item.clear()
            await self._has_item.wait()
        item, length_ms = self._items.popleft()
        self._held_ms = self._held_ms - length_ms if self._items else 0.0  # no rounding is left in an empty channel
        self._has_room.set()
        return item
