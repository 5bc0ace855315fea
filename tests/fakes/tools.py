"""Functions that the server runs, scripted: how long each takes and what comes of it, in the caller's time.

tools = FakeTools(asyncio.sleep)
tools.answers["weather"] = (3.0, ToolAnswer("sunny"))          after three seconds
tools.answers["pay"] = (0.0, RuntimeError("no"))               a fault of the server's
"""

from collections.abc import Awaitable, Callable

from services.orchestrator.conversation.options import ToolExecutor
from services.orchestrator.ports.tools import ToolAnswer, ToolRequest


class FakeTools:
    """See `ToolRunner`.

    Attributes:
        answers: by the function's name: after how long, and what.
        asked: every call, in order.
        live: that run now.
        cancelled: ids of calls that were cut off.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.answers: dict[str, tuple[float, ToolAnswer | Exception]] = {}
        self.asked: list[ToolRequest] = []
        self.cancelled: list[str] = []
        self.live = 0
        self._sleep = sleep

    def has(self, tenant: str, executor: ToolExecutor, name: str) -> bool:
        """Everything called "registered" is."""
        return name == "registered"

    async def run(self, request: ToolRequest) -> ToolAnswer:
        """See the port."""
        self.asked.append(request)
        after_s, answer = self.answers[request.call.name]
        self.live += 1
        is_over = False
        try:
            await self._sleep(after_s)
            is_over = True
        finally:
            self.live -= 1
            if not is_over:
                self.cancelled.append(request.call.call_id)
        if isinstance(answer, Exception):
            raise answer
        return answer
