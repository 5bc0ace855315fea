"""HTTP for functions: to one registered URL, bounded in bytes and connections, without redirects or proxies."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx2

from services.orchestrator.adapters.tools.registry import Registered

_CONNECT_S: Final = 5.0


class ResultTooLargeError(Exception):
    """An answer has more bytes than its place may give; a fault of that place's."""


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, longest: int) -> None:
        self._stream = stream
        self._longest = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size > self._longest:
                raise ResultTooLargeError(f"more than {self._longest} bytes came")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    """Counts the bytes of each answer as they come; what is packed is not taken, for it may unpack to anything."""

    def __init__(self, longest: int, limits: httpx2.Limits) -> None:
        super().__init__(trust_env=False, limits=limits)
        self._longest = longest

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise ResultTooLargeError("the answer is packed, though nobody asked for that")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, self._longest)
        return response


def bounded_client(
    registered: Registered, headers: Mapping[str, str], *, overhead_bytes: int = 0
) -> httpx2.AsyncClient:
    """A client for one place; the caller's own timeout bounds each call as a whole.

    Args:
        registered: the place.
        headers: sent with every request.
        overhead_bytes: that an answer may have beside the result.
    """
    limits = httpx2.Limits(max_connections=registered.max_calls, max_keepalive_connections=registered.max_calls)
    return httpx2.AsyncClient(
        transport=_BoundedTransport(registered.max_result_bytes + overhead_bytes, limits),
        headers=dict(headers),
        timeout=httpx2.Timeout(None, connect=_CONNECT_S),
        follow_redirects=False,
        trust_env=False,
    )
