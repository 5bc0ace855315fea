"""What every engine behind `TokenStreams` does, on torch and on vLLM's side with a scripted engine."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from services.shared.decoding import ContinuousBatcher, EngineRunner, RequestLimits, TokenStreams
from services.shared.decoding.vllm.looping import LoopThread
from services.shared.decoding.vllm.streams import VllmStreams
from services.shared.errors import InvalidInputError, InvalidOptionError, PromptTooLongError, UnknownTokenError
from services.shared.sampling import FinishReason, IdRange, SamplingParams
from tests.fakes.vllm import FakeAsyncLLM, FakeCompletion
from tests.shared.step1.tiny import tiny_step1

pytestmark = pytest.mark.contract

TINY = tiny_step1()
GREEDY = SamplingParams(max_new_tokens=8, temperature=0)
LONG = SamplingParams(max_new_tokens=60, temperature=0)


def as_vllm(prompt: Sequence[int], params: tuple[SamplingParams, int]) -> Iterator[FakeCompletion]:
    """The torch batcher's reply in the form of vLLM's."""
    asked, tokens = params
    reply = ContinuousBatcher(TINY, max_batch=1).generate(prompt, replace(asked, max_new_tokens=tokens))
    for made in range(1, tokens + 1):
        try:
            token = next(reply)
        except StopIteration:
            yield FakeCompletion([asked.stop_ids[0]], "stop", asked.stop_ids[0])
            return
        yield FakeCompletion([token], "length" if made == tokens else None)


def on_vllm() -> TokenStreams:
    def translate(prompt: Sequence[int], params: SamplingParams, tokens: int) -> tuple[Any, Any]:
        return prompt, (params, tokens)

    config = TINY.config
    limits = RequestLimits(config.vocab_size, config.max_seq_len)
    return VllmStreams(FakeAsyncLLM(as_vllm), LoopThread("test"), limits=limits, translate=translate)


def on_torch() -> TokenStreams:
    return EngineRunner(ContinuousBatcher(TINY, max_batch=4))


@pytest.fixture(params=[on_torch, on_vllm])
def streams(request: pytest.FixtureRequest) -> Iterator[TokenStreams]:
    made: TokenStreams = request.param()
    try:
        yield made
    finally:
        made.close()


async def read(
    streams: TokenStreams,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    is_gone: Callable[[], bool] = lambda: False,
    slack_ms: int = 0,
) -> tuple[list[int], FinishReason | None]:
    ids: list[int] = []
    reason = None
    async for output in streams.stream(prompt, params, is_gone=is_gone, slack_ms=slack_ms):
        assert reason is None, "nothing comes after the end"
        assert output.error is None
        ids += output.ids
        reason = output.finish_reason
    return ids, reason


def alone(prompt: Sequence[int], params: SamplingParams) -> list[int]:
    return list(ContinuousBatcher(TINY, max_batch=1).generate(prompt, params))


def test_a_reply_has_the_models_ids_and_ends_at_its_length(streams: TokenStreams) -> None:
    assert asyncio.run(read(streams, [1, 2, 3], GREEDY)) == (alone([1, 2, 3], GREEDY), FinishReason.LENGTH)


def test_a_stop_id_ends_the_reply_and_is_no_part_of_it(streams: TokenStreams) -> None:
    free = alone([1, 2, 3], GREEDY)
    params = replace(GREEDY, stop_ids=(free[3],))
    ids, reason = asyncio.run(read(streams, [1, 2, 3], params))
    assert ids == free[: free.index(free[3])]
    assert reason is FinishReason.STOP


def test_a_reply_ends_where_the_context_ends(streams: TokenStreams) -> None:
    ids, reason = asyncio.run(read(streams, [1] * 60, GREEDY))
    assert (len(ids), reason) == (4, FinishReason.LENGTH)


def test_replies_at_once_are_those_of_each_alone(streams: TokenStreams) -> None:
    prompts = [[1 + number, 2] for number in range(6)]

    async def all_at_once() -> list[tuple[list[int], FinishReason | None]]:
        jobs = (read(streams, prompt, GREEDY, slack_ms=50 * number) for number, prompt in enumerate(prompts))
        return list(await asyncio.gather(*jobs))

    assert [ids for ids, _ in asyncio.run(all_at_once())] == [alone(prompt, GREEDY) for prompt in prompts]
    assert streams.open_requests == 0


def test_closing_a_stream_ends_its_request(streams: TokenStreams) -> None:
    async def hang_up() -> None:
        async with aclosing(streams.stream([1, 2], LONG, is_gone=lambda: False)) as stream:
            await anext(stream)
            assert streams.open_requests == 1

    asyncio.run(hang_up())
    assert streams.open_requests == 0


def test_a_caller_that_has_gone_ends_its_request_as_cancelled() -> None:
    """Of torch it is shown in test_runner, where the steps are many enough."""

    def endless(*_: Any) -> Iterator[FakeCompletion]:
        while True:
            yield FakeCompletion([7])

    limits = RequestLimits(40, 64)
    streams = VllmStreams(
        FakeAsyncLLM(endless), LoopThread("test"), limits=limits, translate=lambda prompt, params, _: (prompt, params)
    )
    try:
        _, reason = asyncio.run(read(streams, [1, 2], LONG, is_gone=lambda: True))
        assert reason is FinishReason.CANCELLED
        assert streams.open_requests == 0
    finally:
        streams.close()


@pytest.mark.parametrize(
    ("prompt", "params", "error"),
    [
        ([], GREEDY, InvalidInputError),
        ([1.5], GREEDY, InvalidInputError),
        ([[1]], GREEDY, InvalidInputError),
        (["x"], GREEDY, InvalidInputError),
        ([True], GREEDY, InvalidInputError),
        ([40], GREEDY, UnknownTokenError),
        ([-1], GREEDY, UnknownTokenError),
        ([2**70], GREEDY, InvalidInputError),
        ([1] * 64, GREEDY, PromptTooLongError),
        ([1], replace(GREEDY, stop_ids=(40,)), InvalidOptionError),
        ([1], replace(GREEDY, allowed_ids=IdRange(0, 41)), InvalidOptionError),
    ],
)
def test_a_request_that_cannot_run_is_refused_and_leaves_nothing(
    streams: TokenStreams, prompt: list[Any], params: SamplingParams, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(read(streams, prompt, params))
    assert streams.open_requests == 0


def test_one_loop_may_follow_another(streams: TokenStreams) -> None:
    first, second = (asyncio.run(read(streams, [1, 2, 3], GREEDY)) for _ in range(2))
    assert first == second


def test_closing_twice_is_closing_once(streams: TokenStreams) -> None:
    streams.close()
    streams.close()
