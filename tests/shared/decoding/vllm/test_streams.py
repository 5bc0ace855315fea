"""Callers before vLLM: deadlines, aborts, failures, each without a neighbour noticing."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from services.shared.decoding import RequestLimits, StepOutput
from services.shared.decoding.vllm.looping import LoopThread
from services.shared.decoding.vllm.streams import VllmStreams
from services.shared.errors import GenerationError, RoomUnavailableError
from services.shared.sampling import FinishReason, SamplingParams
from tests.fakes.vllm import FakeAsyncLLM, FakeCompletion, Script, Step

pytestmark = pytest.mark.unit

PARAMS = SamplingParams(max_new_tokens=50, stop_ids=(3,))


@dataclass
class Bench:
    engine: FakeAsyncLLM
    streams: VllmStreams

    def stream(
        self, *prompt: int, is_gone: Callable[[], bool] = lambda: False, slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        return self.streams.stream(prompt or (1,), PARAMS, is_gone=is_gone, slack_ms=slack_ms)

    async def read(self, *prompt: int, **options: Any) -> list[StepOutput]:
        return [output async for output in self.stream(*prompt, **options)]


@contextmanager
def bench(script: Script) -> Iterator[Bench]:
    engine = FakeAsyncLLM(script)
    streams = VllmStreams(
        engine,
        LoopThread("test"),
        limits=RequestLimits(vocab_size=100, context_tokens=64),
        translate=lambda prompt, params, tokens: (prompt, (params, tokens)),
        clock_s=lambda: 7.5,
    )
    try:
        yield Bench(engine, streams)
    finally:
        streams.close()


def always(*steps: Step) -> Script:
    return lambda prompt, params: steps


def endless(prompt: Sequence[int], params: Any) -> Iterable[Step]:
    while True:
        yield FakeCompletion([prompt[0]])


def test_the_engine_is_asked_with_the_checked_prompt_and_the_room_that_is_left() -> None:
    with bench(always(FakeCompletion([5], "length"))) as on:
        asyncio.run(on.read(*range(1, 61)))
        (asked,) = on.engine.asked
        assert (asked.prompt, asked.params) == (list(range(1, 61)), (PARAMS, 4))


def test_the_priority_is_the_time_at_which_the_listener_needs_the_reply() -> None:
    with bench(always(FakeCompletion([5], "length"))) as on:
        asyncio.run(on.read())
        asyncio.run(on.read(slack_ms=250))
        assert [asked.priority for asked in on.engine.asked] == [7500, 7750]


def test_every_request_has_a_name_of_its_own() -> None:
    with bench(always(FakeCompletion([5], "length"))) as on:
        outputs = [asyncio.run(on.read())[-1] for _ in range(3)]
        assert len({asked.request_id for asked in on.engine.asked}) == 3
        assert [str(output.request_id) for output in outputs] == [asked.request_id for asked in on.engine.asked]


def test_ids_that_come_together_stay_together_and_in_order() -> None:
    with bench(always(FakeCompletion([4, 5]), FakeCompletion([]), FakeCompletion([6, 7, 3], "stop", 3))) as on:
        outputs = asyncio.run(on.read())
        assert [output.ids for output in outputs] == [(4, 5), (), (6, 7)]
        assert outputs[-1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("made", "ids", "reason"),
    [
        (FakeCompletion([3], "stop", 3), (), FinishReason.STOP),
        (FakeCompletion([], "stop", None), (), FinishReason.STOP),
        (FakeCompletion([8], "length"), (8,), FinishReason.LENGTH),
        (FakeCompletion([], "abort"), (), FinishReason.CANCELLED),
    ],
)
def test_the_end_is_told_in_the_houses_words(made: FakeCompletion, ids: tuple[int, ...], reason: FinishReason) -> None:
    with bench(always(made)) as on:
        (output,) = asyncio.run(on.read())
        assert (output.ids, output.finish_reason, output.error) == (ids, reason, None)


@pytest.mark.parametrize(
    "steps",
    [(FakeCompletion([], "error"),), (RuntimeError("the device is lost"),), (FakeCompletion([5]),)],
    ids=["the engine says so", "the engine raises", "the engine falls silent"],
)
def test_a_request_that_fails_says_so_and_the_next_is_served(steps: tuple[Step, ...]) -> None:
    def script(prompt: Sequence[int], params: Any) -> Iterable[Step]:
        return steps if prompt[0] == 9 else (FakeCompletion([5], "length"),)

    with bench(script) as on:
        failed = asyncio.run(on.read(9))[-1]
        assert failed.finish_reason is FinishReason.ERROR
        assert isinstance(failed.error, GenerationError)
        assert asyncio.run(on.read(1))[-1].finish_reason is FinishReason.LENGTH
        assert on.streams.open_requests == 0


def test_an_engine_that_is_gone_for_good_is_an_unavailable_room() -> None:
    def die(prompt: Sequence[int], params: Any) -> Iterable[Step]:
        yield FakeCompletion([5])
        on.engine.errored = True
        yield RuntimeError("the process has ended")

    with bench(die) as on:
        outputs = asyncio.run(on.read())
        assert [output.ids for output in outputs] == [(5,), ()]
        assert isinstance(outputs[-1].error, RoomUnavailableError)
        with pytest.raises(RoomUnavailableError):
            asyncio.run(on.read())
        assert len(on.engine.asked) == 1
        assert on.streams.open_requests == 0


def test_closing_a_stream_aborts_its_request_and_no_other() -> None:
    with bench(endless) as on:

        async def hang_up() -> None:
            async with aclosing(on.stream(1)) as closed, aclosing(on.stream(2)) as staying:
                await anext(closed)
                await anext(staying)
                await closed.aclose()
                while not on.engine.aborted:
                    await anext(staying)
                assert on.engine.aborted == [on.engine.asked[0].request_id]
                assert (await anext(staying)).ids == (2,)

        asyncio.run(hang_up())


def test_a_caller_that_has_gone_is_aborted_while_ids_still_come() -> None:
    with bench(endless) as on:
        asked = iter([False, False, True])
        outputs = asyncio.run(on.read(is_gone=lambda: next(asked)))
        assert outputs[-1].finish_reason is FinishReason.CANCELLED
        assert sum(len(output.ids) for output in outputs) > 0


def test_a_caller_that_has_gone_is_noticed_while_no_ids_come() -> None:
    async def silent(*_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        await asyncio.Event().wait()
        yield

    with bench(endless) as on:
        on.engine.generate = silent  # type: ignore[method-assign]  # this engine never says a word
        (output,) = asyncio.run(on.read(is_gone=lambda: True))
        assert output.finish_reason is FinishReason.CANCELLED


def test_a_cancelled_caller_is_aborted() -> None:
    with bench(endless) as on:

        async def cancel() -> None:
            task = asyncio.create_task(on.read())
            while not on.engine.asked:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not on.engine.aborted:
                await asyncio.sleep(0)

        asyncio.run(cancel())
        assert on.streams.open_requests == 0


def test_closing_the_engine_ends_open_streams_as_cancelled() -> None:
    with bench(endless) as on:

        async def close_meanwhile() -> StepOutput:
            outputs = on.stream()
            await anext(outputs)
            on.streams.close()
            return [output async for output in outputs][-1]

        assert asyncio.run(close_meanwhile()).finish_reason is FinishReason.CANCELLED
        assert on.engine.shut_down
        assert on.engine.aborted, "while there was an engine to tell"
