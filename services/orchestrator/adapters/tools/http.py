"""Functions as HTTP endpoints.

    POST <the registered URL>            idempotency-key: <session>/<call>, traceparent
    {"name": "weather", "arguments": {"place": "Rome"}, "call_id": "…", "session_id": "…", "tenant": "acme"}

A status of 2xx brings the result as text, JSON as a rule; any other brings why it failed, for the model to read. A
call is sent once: whether it may be sent again is the endpoint's to know, by the key. Cancelling closes the connection.
"""

import json
from collections.abc import Mapping
from typing import Final

from services.orchestrator.adapters.tools.bounded import ResultTooLargeError, bounded_client
from services.orchestrator.adapters.tools.registry import Registered
from services.orchestrator.ports.tools import ToolAnswer, ToolRequest

_LONGEST_PROBLEM: Final = 500


class HttpEndpoint:
    """One endpoint.

    Args:
        registered: where it is, and its bounds.
        headers: sent with each call.
    """

    def __init__(self, registered: Registered, headers: Mapping[str, str]) -> None:
        self._registered = registered
        self._client = bounded_client(registered, headers)

    async def call(self, request: ToolRequest) -> ToolAnswer:
        """Run a function. Raises what the transport raises."""
        body = {
            "name": request.call.name,
            "arguments": json.loads(request.call.arguments_json),
            "call_id": request.call.call_id,
            "session_id": request.session_id,
            "tenant": request.tenant,
        }
        headers = {"idempotency-key": f"{request.session_id}/{request.call.call_id}"}
        if request.traceparent:
            headers["traceparent"] = request.traceparent
        try:
            response = await self._client.post(self._registered.url, json=body, headers=headers)
            text = response.content.decode("utf-8")
        except ResultTooLargeError:
            longest = self._registered.max_result_bytes
            return ToolAnswer(f"the result is larger than {longest} bytes; ask for less", is_error=True)
        except UnicodeDecodeError:
            return ToolAnswer("the result is no text", is_error=True)
        if response.is_success:
            return ToolAnswer(text)
        problem = text[:_LONGEST_PROBLEM].strip()
        return ToolAnswer(f"the function failed with {response.status_code}: {problem}", is_error=True)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()
