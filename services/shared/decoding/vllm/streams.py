"""Callers before vLLM's AsyncLLM: ids in, ids out, as `TokenStreams` promises.

    caller's loop                                  engine's loop (a thread)             engine core, workers (processes)
    stream ── admit, translate ──────────────────> generate(…, priority) ─────────────> scheduler, step, step …
      ^ <── queue <── call_soon_threadsafe ─────── RequestOutput, only what is new <──── ids
      └─ closed, or is_gone ─── cancel ──────────> generate is cancelled ─────────────> abort: blocks are freed

The scheduler serves the lowest priority value first. Here it is the time at which the listener needs the reply, in
milliseconds: the earliest deadline goes first, and where memory runs out the latest one is put back.

A stream's queue holds at most what its request may generate. What a sampled token is depends on vLLM's own random
numbers: with temperature 0 the ids are those of the torch batcher, else they are others of the same distribution.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from services.shared.decoding.engine import RequestId, StepOutput
from services.shared.decoding.limits import RequestLimits
from services.shared.decoding.vllm.looping import LoopThread
from services.shared.errors import GenerationError, RoomUnavailableError, StepAudioError
from services.shared.sampling import FinishReason, SamplingParams

_LOG: Final = logging.getLogger(__name__)
_CHECK_INTERVAL_S: Final = 0.01
"""Asking Triton whether a caller has gone costs a message to the server; so often is enough to save a step or two."""


class AsyncEngine(Protocol):
    """What is used of AsyncLLM."""

    @property
    def errored(self) -> bool:
        """Whether the engine is gone for good."""

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[Any, None]:  # vLLM's own types, which are known where vllm is imported
        """Generate one reply; cancelling aborts it."""

    def shutdown(self) -> None:
        """End the engine's processes."""


Translate = Callable[[Sequence[int], SamplingParams, int], tuple[Any, Any]]
"""A prompt, how to generate and how many tokens at most -> vLLM's prompt and sampling parameters."""
Deliver = Callable[[StepOutput], None]


class VllmStreams:
    """`TokenStreams` on vLLM (see `streams.py` of decoding for what its methods promise)."""

    def __init__(
        self,
        engine: AsyncEngine,
        loop: LoopThread,
        *,
        limits: RequestLimits,
        translate: Translate,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stand before an engine that lives on `loop`.

        Args:
            engine: used by nobody else.
            loop: the engine's own.
            limits: of the model that it serves.
            translate: requests into the engine's words.
            clock_s: seconds, from any start.
        """
        self._engine = engine
        self._loop = loop
        self._limits = limits
        self._translate = translate
        self._clock_s = clock_s
        self._open = 0
        self._last = 0
        self._closed = False
        self._tasks = set[asyncio.Task[Any]]()  # of open requests; touched on the engine's loop alone

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return self._open

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, is_gone: Callable[[], bool], slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        """Generate one reply: see `TokenStreams.stream`."""
        prompt, tokens = self._limits.admit(prompt_ids, params)
        if self._closed or self._engine.errored:
            raise RoomUnavailableError("vLLM's engine has ended; its log tells why, and the room must be restarted")
        self._last += 1
        request_id = RequestId(self._last)
        due_ms = round(self._clock_s() * 1000) + slack_ms
        outputs = asyncio.Queue[StepOutput]()
        here = asyncio.get_running_loop()

        def deliver(output: StepOutput) -> None:
            with suppress(RuntimeError):  # the caller's loop is closed: nobody is left to be told
                here.call_soon_threadsafe(outputs.put_nowait, output)

        job = self._generate(request_id, self._translate(prompt, params, tokens), params, due_ms, deliver)
        self._open += 1
        try:
            running = self._loop.submit(job)
            try:
                async for output in _until_gone(outputs, request_id, is_gone):
                    yield output
            finally:
                running.cancel()
        finally:
            self._open -= 1

    def close(self) -> None:
        """End the engine; requests that are still open end as cancelled. Closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        self._loop.submit(self._abort_all()).result()  # while there is an engine to tell
        self._engine.shutdown()
        self._loop.close()

    async def _abort_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _generate(
        self, request_id: RequestId, request: tuple[Any, Any], params: SamplingParams, due_ms: int, deliver: Deliver
    ) -> None:
        """Run one request on the engine's loop, and deliver an end whatever happens."""
        end = StepOutput(request_id, (), FinishReason.CANCELLED)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._tasks.add(task)
        try:
            prompt, sampling = request
            async for answer in self._engine.generate(prompt, sampling, str(request_id), priority=due_ms):
                output = _translated(request_id, answer.outputs[0], params)
                if output.finish_reason is not None:
                    end = output
                    return
                deliver(output)
            raise GenerationError("the engine's answers ended without a reason")
        except Exception as error:  # noqa: BLE001 - an engine may fail in any way; the caller must hear of it
            end = StepOutput(request_id, (), FinishReason.ERROR, self._explained(error))
        finally:
            self._tasks.discard(task)
            deliver(end)

    def _explained(self, error: Exception) -> StepAudioError:
        if isinstance(error, StepAudioError):
            return error
        _LOG.error("the engine failed", exc_info=error)
        if self._engine.errored:
            return RoomUnavailableError("vLLM's engine has ended; its log tells why")
        return GenerationError("the engine failed while generating; its log tells more")


async def _until_gone(
    outputs: asyncio.Queue[StepOutput], request_id: RequestId, is_gone: Callable[[], bool]
) -> AsyncGenerator[StepOutput, None]:
    """What arrives until the end; or, once the caller has gone, the end."""
    loop = asyncio.get_running_loop()
    check_s = loop.time() + _CHECK_INTERVAL_S
    while True:
        try:
            async with asyncio.timeout_at(check_s):
                output = await outputs.get()
        except TimeoutError:
            output = None
        if output is not None:
            yield output
            if output.finish_reason is not None:
                return
        if loop.time() >= check_s:
            if is_gone():
                yield StepOutput(request_id, (), FinishReason.CANCELLED)
                return
            check_s = loop.time() + _CHECK_INTERVAL_S


def _translated(request_id: RequestId, made: Any, params: SamplingParams) -> StepOutput:
    """One CompletionOutput of vLLM, which counts the stop id that ended a reply among its tokens."""
    ids = tuple(made.token_ids)
    match made.finish_reason:
        case None:
            return StepOutput(request_id, ids)
        case "stop":
            ids = ids[:-1] if ids and ids[-1] in params.stop_ids else ids
            return StepOutput(request_id, ids, FinishReason.STOP)
        case "length":
            return StepOutput(request_id, ids, FinishReason.LENGTH)
        case "abort":
            return StepOutput(request_id, ids, FinishReason.CANCELLED)
        case reason:
            error = GenerationError(f"the engine ended the reply for the reason {reason}; try again")
            return StepOutput(request_id, (), FinishReason.ERROR, error)
