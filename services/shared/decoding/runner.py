"""`TokenStreams` on a synchronous engine, on one asyncio loop: the loop steps it while anyone waits for ids.

    caller 1 ── stream ──┐                    ┌──> ids, ids, ids … finish
    caller 2 ── stream ──┼──> engine.step() ──┼──> ids, ids … finish
    caller 3 ── stream ──┘   (all in one)     └──> …

The engine belongs to one thread; here that thread is the loop's, and between two steps every caller has its turn. A
caller that has gone, or whose work is out of date, is noticed between two steps and leaves the engine with the next.
Each stream's queue holds at most what its request may generate.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from services.shared.decoding.engine import Engine, RequestId, StepOutput
from services.shared.errors import GenerationError
from services.shared.sampling import FinishReason, SamplingParams

_LOG: Final = logging.getLogger(__name__)
_CHECK_INTERVAL_S: Final = 0.01
"""Asking Triton whether a caller has gone costs a message to the server; so often is enough to save a step or two."""

AroundStep: TypeAlias = Callable[[int], AbstractContextManager[None]]


@dataclass(slots=True, eq=False)
class _Caller:
    is_gone: Callable[[], bool]
    outputs: asyncio.Queue[StepOutput] = field(default_factory=asyncio.Queue)


class EngineRunner:
    """Steps an engine for its callers; all on one event loop."""

    def __init__(self, engine: Engine, *, around_step: AroundStep | None = None) -> None:
        """Args: engine: used by nobody else. around_step: entered for each step, told how many requests are open."""
        self._engine = engine
        self._around_step = around_step or (lambda requests: nullcontext())
        self._callers: dict[RequestId, _Caller] = {}
        self._stepping: asyncio.Task[None] | None = None
        self._checked_s = 0.0

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._callers)

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, is_gone: Callable[[], bool], slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        """Generate one reply: see `TokenStreams.stream`."""
        request_id = self._engine.submit(prompt_ids, params, due_s=time.monotonic() + slack_ms / 1000)
        caller = self._callers[request_id] = _Caller(is_gone)
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step_while_busy())
        try:
            while True:
                output = await caller.outputs.get()
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            del self._callers[request_id]
            self._engine.cancel(request_id)

    def close(self) -> None:
        """Nothing is held beyond the engine itself."""

    async def _step_while_busy(self) -> None:
        while self._engine.has_work:
            self._cancel_the_gone()
            try:
                with self._around_step(len(self._callers)):
                    outputs = self._engine.step()
            except Exception:  # noqa: BLE001 - an engine may fail in any way; later requests must outlive it
                _LOG.exception("the engine failed; every open request ends")
                self._deliver(self._fail_all())
                return
            self._deliver(outputs)
            await asyncio.sleep(0)

    def _deliver(self, outputs: Sequence[StepOutput]) -> None:
        for output in outputs:
            if (caller := self._callers.get(output.request_id)) is not None:
                caller.outputs.put_nowait(output)

    def _cancel_the_gone(self) -> None:
        now_s = time.monotonic()
        if now_s - self._checked_s < _CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        for request_id, caller in self._callers.items():
            if caller.is_gone():
                self._engine.cancel(request_id)

    def _fail_all(self) -> list[StepOutput]:
        error = GenerationError("the engine failed while generating; its log tells more")
        for request_id in self._callers:
            self._engine.cancel(request_id)
        return [StepOutput(request_id, (), FinishReason.ERROR, error) for request_id in self._callers]
