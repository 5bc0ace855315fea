"""Functions of an MCP server over streamable HTTP, called by the protocol's own library.

Each call opens the protocol anew over connections that are kept: a server that was restarted is found again, and a
call that is cancelled leaves nothing behind. The server's requests of its own (sampling, questions to the user) are not
answered. What it gives is taken as text; of images and sound only the kind is told.
"""

import json
from collections.abc import Mapping
from typing import Final

from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from services.orchestrator.adapters.tools.bounded import bounded_client
from services.orchestrator.adapters.tools.registry import Registered
from services.orchestrator.ports.tools import ToolAnswer, ToolRequest

_LONGEST_PROBLEM: Final = 500
_WRAPPING: Final = 8
"""The protocol writes a result as JSON, perhaps twice, with up to six bytes for one."""
_MESSAGES_BYTES: Final = 65_536
"""Of the protocol's other messages."""


class McpServer:
    """One server.

    Args:
        registered: where it is, and its bounds.
        headers: sent with each request.
    """

    def __init__(self, registered: Registered, headers: Mapping[str, str]) -> None:
        self._registered = registered
        overhead_bytes = (_WRAPPING - 1) * registered.max_result_bytes + _MESSAGES_BYTES
        self._client = bounded_client(registered, headers, overhead_bytes=overhead_bytes)

    async def call(self, request: ToolRequest) -> ToolAnswer:
        """Run a function. Raises what the protocol and its transport raise, in groups too."""
        arguments = json.loads(request.call.arguments_json)
        transport = streamable_http_client(self._registered.url, http_client=self._client)
        async with Client(transport, read_timeout_seconds=request.tool.timeout_ms / 1000, cache=None) as client:
            try:
                result = await client.call_tool(request.call.name, arguments)
            except MCPError as error:
                return ToolAnswer(f"the function failed: {str(error)[:_LONGEST_PROBLEM]}", is_error=True)
        text = _text(result)
        longest = self._registered.max_result_bytes
        if len(text.encode()) > longest:
            return ToolAnswer(f"the result is larger than {longest} bytes; ask for less", is_error=True)
        return ToolAnswer(text, is_error=result.is_error)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


def _text(result: CallToolResult) -> str:
    parts = [block.text if isinstance(block, TextContent) else f"[{block.type}]" for block in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)
