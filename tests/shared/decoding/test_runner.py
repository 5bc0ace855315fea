"""Many callers on one engine: who gets what, and that whoever goes leaves nothing behind."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing

import pytest

from services.shared.decoding import EngineRunner, RequestId, StepOutput
from services.shared.errors import GenerationError
from services.shared.sampling import FinishReason, SamplingParams

pytestmark = pytest.mark.unit

PARAMS = SamplingParams(max_new_tokens=1000)


class CountingEngine:
    """Gives each request 10, 11, 12, … and stops after `limit` ids; fails in the step that is told to."""

    def __init__(self, *, limit: int, fails_in_step: int | None = None) -> None:
        self.running: dict[RequestId, int] = {}
        self.cancelled: list[RequestId] = []
        self.steps = 0
        self._limit = limit
        self._fails_in_step = fails_in_step
        self._last = 0

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams, *, due_s: float = 0.0) -> RequestId:
        self._last += 1
        self.running[RequestId(self._last)] = 0
        return RequestId(self._last)

    def cancel(self, request_id: RequestId) -> None:
        if self.running.pop(request_id, None) is not None:
            self.cancelled.append(request_id)

    def step(self) -> list[StepOutput]:
        self.steps += 1
        if self.steps == self._fails_in_step:
            raise RuntimeError("the device is lost")
        outputs = [StepOutput(request_id, (), FinishReason.CANCELLED) for request_id in self.cancelled]
        for request_id in list(self.running):
            self.running[request_id] += 1
            made = self.running[request_id]
            finish = FinishReason.STOP if made == self._limit else None
            outputs.append(StepOutput(request_id, (9 + made,), finish))
            if finish:
                del self.running[request_id]
        return outputs


def run(job: Coroutine[object, object, None]) -> None:
    asyncio.run(job)


async def read(runner: EngineRunner, *, is_gone: Callable[[], bool] = lambda: False) -> list[int]:
    return [token async for output in runner.stream([1], PARAMS, is_gone=is_gone) for token in output.ids]


def test_callers_share_the_steps_and_each_gets_its_own_ids() -> None:
    async def scenario() -> None:
        engine = CountingEngine(limit=4)
        runner = EngineRunner(engine)
        assert list(await asyncio.gather(*(read(runner) for _ in range(3)))) == [[10, 11, 12, 13]] * 3
        assert engine.steps == 4
        assert runner.open_requests == 0

    run(scenario())


def test_a_later_caller_starts_the_steps_again() -> None:
    async def scenario() -> None:
        runner = EngineRunner(CountingEngine(limit=2))
        assert await read(runner) == [10, 11]
        assert await read(runner) == [10, 11]

    run(scenario())


def test_closing_the_stream_takes_the_request_out_of_the_engine() -> None:
    async def scenario() -> None:
        engine = CountingEngine(limit=1000)
        runner = EngineRunner(engine)
        async with aclosing(runner.stream([1], PARAMS, is_gone=lambda: False)) as stream:
            await anext(stream)
        assert (engine.running, engine.cancelled, runner.open_requests) == ({}, [1], 0)

    run(scenario())


def test_a_caller_that_has_gone_leaves_the_engine_while_others_go_on() -> None:
    async def scenario() -> None:
        engine = CountingEngine(limit=200_000)
        runner = EngineRunner(engine)
        gone = False
        leaving = asyncio.create_task(read(runner, is_gone=lambda: gone))
        await asyncio.sleep(0)
        async with aclosing(runner.stream([1], PARAMS, is_gone=lambda: False)) as staying:
            await anext(staying)
            gone = True
            while 1 not in engine.cancelled:
                await anext(staying)
            assert 2 in engine.running
            assert await leaving == list(range(10, 10 + len(leaving.result())))
            assert runner.open_requests == 1

    run(scenario())


def test_a_failing_engine_ends_the_open_requests_and_serves_the_next() -> None:
    async def scenario() -> None:
        engine = CountingEngine(limit=3, fails_in_step=2)
        runner = EngineRunner(engine)
        outputs = [output async for output in runner.stream([1], PARAMS, is_gone=lambda: False)]
        assert outputs[-1].finish_reason is FinishReason.ERROR
        assert isinstance(outputs[-1].error, GenerationError)
        assert await read(runner) == [10, 11, 12]

    run(scenario())


def test_every_step_is_told_how_many_share_it() -> None:
    class Around:
        def __init__(self, requests: int) -> None:
            seen.append(requests)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    seen: list[int] = []

    async def scenario() -> None:
        runner = EngineRunner(CountingEngine(limit=2), around_step=Around)
        await asyncio.gather(read(runner), read(runner))

    run(scenario())
    assert seen == [2, 2]
