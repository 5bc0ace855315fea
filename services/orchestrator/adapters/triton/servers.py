"""Which server of a pool an utterance stays on: a sequence's state lives in one process.

A channel that spreads its requests over all addresses of a name would send the second request of a sequence to a
server that never saw the first. So the name is looked up here, each utterance is given one of its addresses in turn
and keeps that client until it ends; addresses that are gone are closed when their last utterance has ended.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.shared.errors import RoomUnavailableError
from services.shared.triton.client import TritonClient

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""host:port to one or more numeric host:port; raises OSError where there is none."""

_KEEP_S: Final = 5.0


@dataclass(slots=True, eq=False)
class Server:
    """One server, and how many utterances are on it."""

    client: TritonClient
    utterances: int = 0


class Servers:
    """The servers of one pool, by the addresses of its name."""

    def __init__(
        self, address: str, *, resolve: Resolve | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make it; nothing is looked up yet.

        Args:
            address: host:port.
            resolve: looks a name up; DNS if left out.
            clock: monotonic seconds; an answer of `resolve` is good for 5 s.
        """
        self._address = address
        self._resolve = resolve or look_up
        self._clock = clock
        self._servers: dict[str, Server] = {}
        self._addresses: tuple[str, ...] = ()
        self._resolved_s = -_KEEP_S
        self._turn = 0

    @property
    def connected(self) -> frozenset[str]:
        """Addresses that have a client."""
        return frozenset(self._servers)

    async def take(self, *, other_than: Server | None = None) -> Server:
        """Give an utterance its server; give it back with `leave`.

        Args:
            other_than: the server that failed it; given again only if there is no other.

        Raises:
            RoomUnavailableError: the name has no address.
        """
        addresses = await self._current()
        self._turn += 1
        in_turn = [addresses[(self._turn + place) % len(addresses)] for place in range(len(addresses))]
        failed = other_than.client.address if other_than is not None else ""
        chosen = next((address for address in in_turn if address != failed), in_turn[0])
        server = self._servers.get(chosen) or self._servers.setdefault(chosen, Server(TritonClient(chosen)))
        server.utterances += 1
        return server

    async def leave(self, server: Server) -> None:
        """The utterance has ended, or has moved to another server."""
        server.utterances -= 1
        await self._close_unused()

    async def close(self) -> None:
        """Close every connection."""
        while self._servers:
            _, server = self._servers.popitem()
            await server.client.close()

    async def _current(self) -> tuple[str, ...]:
        now_s = self._clock()
        if now_s - self._resolved_s < _KEEP_S:
            return self._addresses
        try:
            found = tuple(sorted(await self._resolve(self._address)))
        except OSError as error:
            if not self._addresses:
                raise RoomUnavailableError(f"{self._address} cannot be looked up: {error}") from error
            found = self._addresses  # a name server's pause ends no service that runs
        self._addresses, self._resolved_s = found, now_s
        await self._close_unused()
        return found

    async def _close_unused(self) -> None:
        for address, server in list(self._servers.items()):
            if not server.utterances and address not in self._addresses:
                del self._servers[address]
                await server.client.close()


async def look_up(address: str) -> Sequence[str]:
    """All addresses of a host:port, numeric. Raises OSError where it has none."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = {str(where[0]) for *_, where in found}
    return sorted(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in hosts)
