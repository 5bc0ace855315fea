"""Functions that the server runs for the model: the endpoints and servers that its operator has registered.

Callers name what is registered, and never a place to go to. What goes wrong with a function is an answer too: words for
the model. Cancelling the task that awaits reaches whoever runs the function, as far as that can be told.
"""

from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.conversation.options import Tool, ToolExecutor
from services.orchestrator.conversation.record import ToolCall


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call of a function.

    Attributes:
        tenant, session_id: whose call it is.
        call: with arguments that fit the function's schema.
        tool: the function; `registered_as` says where it runs, `timeout_ms` how long at most.
        traceparent: W3C trace context; empty where nothing is traced.
    """

    tenant: str
    session_id: str
    call: ToolCall
    tool: Tool
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What came of a call, for the model: what the function gave, or why it failed."""

    text: str
    is_error: bool = False


class ToolRunner(Protocol):
    """Runs functions."""

    def has(self, tenant: str, executor: ToolExecutor, name: str) -> bool:
        """Whether something is registered under this name that a tenant may use."""

    async def run(self, request: ToolRequest) -> ToolAnswer:
        """Run a function and wait for its answer, which is bounded; it does not raise but when it is cancelled."""
