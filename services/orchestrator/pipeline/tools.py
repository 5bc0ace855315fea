"""Functions that the server runs for a session, each a task of the session's TaskGroup.

Whatever becomes of one, the core hears of it at most once: what it gave, or in words for the model why it failed. The
core keeps the time, and cancels a function that takes too long or that nobody waits for; of that it hears nothing.
"""

import asyncio
import logging
from collections.abc import Callable

from services.orchestrator.conversation.effects import RunTool
from services.orchestrator.conversation.events import Event, ToolAnswered
from services.orchestrator.ports.tools import ToolRequest, ToolRunner

_log = logging.getLogger(__name__)
_FAILED = "the function failed"
_LATE_S = 1.0
"""The core has cancelled a function before, or its timer is broken."""


class ToolCalls:
    """What a session has under way.

    Args:
        session_id, tenant: the session's.
        runner: of the server's functions; None where it has none.
        clock: monotonic seconds.
        tell: takes events for the core.
    """

    def __init__(
        self,
        session_id: str,
        tenant: str,
        runner: ToolRunner | None,
        *,
        clock: Callable[[], float],
        tell: Callable[[Event], None],
    ) -> None:
        self._session_id = session_id
        self._tenant = tenant
        self._runner = runner
        self._clock = clock
        self._tell = tell
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    def use(self, tasks: asyncio.TaskGroup) -> None:
        """From now on functions can run, in this group."""
        self._tasks = tasks

    def run(self, effect: RunTool, traceparent: str) -> None:
        """Run a function; reports ToolAnswered unless it is cancelled."""
        assert self._tasks is not None
        call_id = effect.call.call_id
        request = ToolRequest(
            tenant=self._tenant,
            session_id=self._session_id,
            call=effect.call,
            tool=effect.tool,
            traceparent=traceparent,
        )
        task = self._tasks.create_task(self._run(request))
        self._running[call_id] = task
        task.add_done_callback(lambda _: self._running.pop(call_id, None))

    def cancel(self, call_id: str) -> None:
        """Nobody waits for it any more."""
        if call_id in self._running:
            self._running[call_id].cancel()

    def stop(self) -> None:
        """Cancel all."""
        for call_id in list(self._running):
            self.cancel(call_id)

    async def _run(self, request: ToolRequest) -> None:
        text, is_error = "this server has no functions of its own", True
        try:
            if self._runner is not None:
                async with asyncio.timeout(request.tool.timeout_ms / 1000 + _LATE_S):
                    answer = await self._runner.run(request)
                text, is_error = answer.text, answer.is_error
        except TimeoutError:
            text = "the function did not answer in time"
        except Exception as error:  # noqa: BLE001 - whatever a function does wrong ends its call and no more
            _log.error("a function failed by a fault of the server's", exc_info=error)
            text = _FAILED
        self._tell(ToolAnswered(self._clock(), request.call.call_id, text, is_error))
