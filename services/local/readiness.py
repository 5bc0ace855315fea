"""Waiting for a server to really work: an inference whose answer is checked, not the server's own ready flag."""

import asyncio
import time
from typing import Final

from services.local.triton import TritonServer
from services.shared.errors import DeadlineExceededError, RoomUnavailableError
from services.shared.triton.client import TritonClient
from services.shared.triton.probe import probe_pool

_RETRY_S: Final = 0.2


async def await_ready(server: TritonServer, *, timeout_s: float) -> float:
    """Ask a server until it gives a right answer.

    Returns:
        seconds it took.

    Raises:
        RoomUnavailableError: its process ended.
        StepAudioError: its answer is wrong.
        DeadlineExceededError: there was no answer in time.
    """
    started_s = time.monotonic()
    while True:
        server.check()
        try:
            await probe(server.pool, server.address, timeout_s=timeout_s)
            return time.monotonic() - started_s
        except RoomUnavailableError as error:
            if time.monotonic() - started_s > timeout_s:
                raise DeadlineExceededError(
                    f"{server.process.name} gave no answer in {timeout_s:.0f} s: {error}"
                ) from error
        await asyncio.sleep(_RETRY_S)


async def probe(pool: str, address: str, *, timeout_s: float) -> None:
    """Ask every model of a pool once and check the answers. Raises as `probe_pool`."""
    async with TritonClient(address) as client:
        await probe_pool(client, pool, timeout_s=timeout_s)
