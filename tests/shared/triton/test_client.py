"""The client of Triton, where no server of Triton's is needed."""

import asyncio
import os
import socket
from collections.abc import Iterator

import grpc
import pytest

from services.shared.errors import StepAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEECH_TOKENIZER

pytestmark = pytest.mark.unit


def connections_to(port: int) -> Iterator[socket.socket]:
    """This process's ends of connections to a port."""
    for number in os.listdir("/proc/self/fd"):
        try:
            end = socket.socket(fileno=os.dup(int(number)))
        except OSError:  # no socket
            continue
        with end:
            try:
                if end.family in (socket.AF_INET, socket.AF_INET6) and end.getpeername()[1] == port:
                    yield end
            except OSError:  # not connected
                continue


def test_a_connection_whose_host_died_without_a_word_is_given_up() -> None:
    async def main() -> list[int]:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with TritonClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(StepAudioError):
                await client.metadata(SPEECH_TOKENIZER, timeout_s=5)
            waits_ms = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for end in connections_to(port)]
        await server.stop(0)
        return waits_ms

    assert asyncio.run(main()) == [10_000]
