"""The batcher: joining, leaving, cancelling and failing, each without a neighbour noticing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from services.shared.decoding import ContinuousBatcher, Engine, RequestId, StepOutput
from services.shared.decoding import (
    batcher as batcher_module,
)
from services.shared.errors import (
    GenerationError,
    InvalidInputError,
    InvalidOptionError,
    PromptTooLongError,
    UnknownTokenError,
)
from services.shared.nn.step1 import KeyValueCache, Step1, load_step1, read_step1_config
from services.shared.paths import CHAT_FOLDER
from services.shared.sampling import FinishReason, IdRange, SamplingParams
from services.shared.text import load_text_tokenizer
from tests.conftest import NANO, golden_file
from tests.shared.step1.tiny import tiny_step1

TINY = tiny_step1()
GREEDY = SamplingParams(max_new_tokens=8, temperature=0)


@dataclass
class Reply:
    ids: list[int]
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    steps: int = 0


class Log:
    """What a batcher said about each request."""

    def __init__(self) -> None:
        self.replies: dict[RequestId, Reply] = {}

    def add(self, outputs: Sequence[StepOutput]) -> None:
        assert len({output.request_id for output in outputs}) == len(outputs), "one output a request and step"
        for output in outputs:
            reply = self.replies.setdefault(output.request_id, Reply([]))
            assert reply.finish_reason is None, "nothing comes after the end"
            assert len(output.ids) <= 1
            reply.ids += output.ids
            reply.finish_reason = output.finish_reason
            reply.error = output.error
            reply.steps += 1

    def run(self, batcher: ContinuousBatcher) -> None:
        while batcher.has_work:
            self.add(batcher.step())


def alone(model: Step1, prompt: Sequence[int], params: SamplingParams) -> Reply:
    batcher, log = ContinuousBatcher(model, max_batch=1), Log()
    request = batcher.submit(prompt, params)
    log.run(batcher)
    return log.replies[request]


@cache
def nano() -> Step1:
    return load_step1(NANO / CHAT_FOLDER)


def assert_empty(batcher: ContinuousBatcher) -> None:
    assert not batcher.has_work
    assert batcher.step() == []
    assert not any(batcher._cache.lengths), "no slot holds a token"
    assert not batcher._mailboxes


@pytest.mark.golden
@pytest.mark.parametrize(("name", "rule"), [("greedy_ids", False), ("greedy_rap_ids", True)])
def test_greedy_replies_equal_the_recorded_ones_beside_other_requests(name: str, rule: bool) -> None:
    model = load_step1(golden_file("step1/model.safetensors").parent)
    with np.load(golden_file("step1/io.npz")) as recorded:
        prompt, expected = recorded["short_ids"][0].tolist(), recorded[name].tolist()
    batcher, log = ContinuousBatcher(model, max_batch=3), Log()
    params = SamplingParams(max_new_tokens=32, temperature=0, repetition_aware=rule)
    batcher.submit(prompt[:5], SamplingParams(max_new_tokens=9, seed=0))
    request = batcher.submit(prompt, params)
    batcher.submit(prompt[3:], SamplingParams(max_new_tokens=50, seed=1))
    log.run(batcher)
    assert log.replies[request].ids == expected


_ROUNDING = 2e-5
"""Of logits: sums in a larger batch are rounded otherwise."""

Plan = list[tuple[tuple[list[int], SamplingParams], int, int | None]]
"""Requests, each with the step it arrives at, and how many steps later it is cancelled, if ever."""


@st.composite
def requests(draw: st.DrawFn, vocab_size: int) -> tuple[list[int], SamplingParams]:
    prompt = draw(st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=20))
    params = SamplingParams(
        max_new_tokens=draw(st.integers(1, 14)),
        temperature=draw(st.sampled_from([0, 0.7, 1.5])),
        top_k=draw(st.sampled_from([0, 5, 50])),
        top_p=draw(st.sampled_from([0.8, 1.0])),
        seed=draw(st.integers(0, 9)),
        stop_ids=draw(st.sampled_from([(), (3, 7, 11, 20)])),
        repetition_aware=draw(st.booleans()),
        allowed_ids=draw(st.sampled_from([None, IdRange(5, vocab_size - 10)])),
    )
    return prompt, params


def plans(vocab_size: int) -> st.SearchStrategy[Plan]:
    entry = st.tuples(requests(vocab_size), st.integers(0, 6), st.none() | st.integers(0, 12))
    return st.lists(entry, min_size=1, max_size=8)


def check_plan(model: Step1, plan: Plan, *, max_batch: int, budget: int) -> None:
    """Run a plan, reading prompts in pieces of 6, and compare each reply with that of its request alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher_module, "_PREFILL_BUDGET_TOKENS", budget)
        patch.setattr(model, "chunk_tokens", lambda start: 6)
        batcher, log = ContinuousBatcher(model, max_batch=max_batch), Log()
        ids: dict[int, RequestId] = {}
        step = 0
        while len(ids) < len(plan) or batcher.has_work or step < 20:
            for place, ((prompt, params), arrival, cancel_after) in enumerate(plan):
                if arrival == step:
                    ids[place] = batcher.submit(prompt, params)
                if cancel_after is not None and step == arrival + cancel_after:
                    batcher.cancel(ids[place])
            log.add(batcher.step())
            step += 1
        assert_empty(batcher)
        for place, ((prompt, params), _, cancel_after) in enumerate(plan):
            reply, single = log.replies[ids[place]], alone(model, prompt, params)
            if _parted_by_rounding(model, prompt, reply.ids, single.ids):
                assert params.temperature > 0
            elif reply.finish_reason == FinishReason.CANCELLED:
                assert cancel_after is not None
                assert reply.ids == single.ids[: len(reply.ids)]
            else:
                assert (reply.ids, reply.finish_reason) == (single.ids, single.finish_reason)


def _parted_by_rounding(model: Step1, prompt: Sequence[int], found: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether the first ids to differ are as likely as each other but for rounding, which orders the candidates."""
    differing = (place for place, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other)
    if (place := next(differing, None)) is None:
        return False
    logits = model.logits(torch.tensor([[*prompt, *wanted[:place]]]))[0, -1]
    return bool((logits[found[place]] - logits[wanted[place]]).abs() < _ROUNDING)


@pytest.mark.unit
@given(plans(40), st.integers(1, 4), st.sampled_from([1, 4, 512]))
@settings(max_examples=60, derandomize=True)
def test_any_mix_of_arrivals_and_cancellations_gives_the_single_runs(plan: Plan, max_batch: int, budget: int) -> None:
    check_plan(TINY, plan, max_batch=max_batch, budget=budget)


@pytest.mark.integration
@given(plans(read_step1_config(NANO / CHAT_FOLDER).vocab_size), st.integers(2, 8))
@settings(max_examples=15, derandomize=True)
def test_any_mix_on_nano_gives_the_single_runs(plan: Plan, max_batch: int) -> None:
    check_plan(nano(), plan, max_batch=max_batch, budget=512)


@pytest.mark.integration
def test_eight_concurrent_replies_of_nano_equal_single_runs() -> None:
    model, tokenizer = nano(), load_text_tokenizer(NANO / CHAT_FOLDER)
    texts = ["What is the capital of Egypt?", "Who built you?", "Turn off the garden light.", "Please sing for me."]
    plan = []
    for seed, text in enumerate(texts * 2):
        prompt = tokenizer.encode(f"<|BOT|>human\n{text}<|EOT|><|BOT|>assistant\n")
        plan.append((prompt, SamplingParams(max_new_tokens=10 + 3 * seed, temperature=0.9, top_p=0.9, seed=seed)))
    batcher, log = ContinuousBatcher(model, max_batch=8), Log()
    ids = []
    for prompt, params in plan:
        ids.append(batcher.submit(prompt, params))
        log.add(batcher.step())
    log.run(batcher)
    assert_empty(batcher)
    for request, (prompt, params) in zip(ids, plan, strict=True):
        assert log.replies[request].ids == alone(model, prompt, params).ids


@pytest.mark.unit
def test_the_batcher_is_an_engine() -> None:
    engine: Engine = ContinuousBatcher(TINY, max_batch=1)
    assert not engine.has_work


@pytest.mark.unit
def test_requests_join_and_leave_between_steps() -> None:
    batcher, log = ContinuousBatcher(TINY, max_batch=4), Log()
    first = batcher.submit([1, 2, 3], GREEDY)
    log.add(batcher.step())
    second = batcher.submit([4, 5], replace(GREEDY, max_new_tokens=2))
    log.add(batcher.step())
    assert [len(log.replies[request].ids) for request in (first, second)] == [2, 1], "both ran in the second step"
    log.add(batcher.step())
    assert log.replies[second].finish_reason == FinishReason.LENGTH
    log.run(batcher)
    assert log.replies[first].ids == alone(TINY, [1, 2, 3], GREEDY).ids


@pytest.mark.unit
def test_more_requests_than_slots_wait_in_order() -> None:
    batcher, log = ContinuousBatcher(TINY, max_batch=2), Log()
    ids = [batcher.submit([place], replace(GREEDY, max_new_tokens=3)) for place in range(5)]
    firsts = []
    while batcher.has_work:
        before = {request for request, reply in log.replies.items() if reply.ids}
        log.add(batcher.step())
        firsts += sorted({request for request, reply in log.replies.items() if reply.ids} - before)
    assert firsts == ids
    assert all(reply.steps == 3 for reply in log.replies.values())


@pytest.mark.unit
def test_a_stop_id_ends_the_reply_and_is_not_part_of_it() -> None:
    free = alone(TINY, [1, 2], GREEDY)
    place = next(place for place, token in enumerate(free.ids) if token not in free.ids[:place] and place)
    reply = alone(TINY, [1, 2], replace(GREEDY, stop_ids=(free.ids[place],)))
    assert (reply.ids, reply.finish_reason) == (free.ids[:place], FinishReason.STOP)


@pytest.mark.unit
def test_a_reply_cut_short_keeps_its_last_token() -> None:
    reply = alone(TINY, [1, 2], replace(GREEDY, max_new_tokens=5))
    assert len(reply.ids) == 5
    assert reply.finish_reason == FinishReason.LENGTH


@pytest.mark.unit
@pytest.mark.parametrize("length", [56, 57, 63])
def test_a_reply_ends_where_the_context_ends(length: int) -> None:
    reply = alone(TINY, [1] * length, GREEDY)
    assert len(reply.ids) == min(8, 64 - length)
    assert reply.finish_reason == FinishReason.LENGTH


@pytest.mark.unit
def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    batcher = ContinuousBatcher(TINY, max_batch=1)
    for length in (64, 65):
        with pytest.raises(PromptTooLongError, match="max_seq_len of 64"):
            batcher.submit([1] * length, GREEDY)
    assert_empty(batcher)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("prompt", "params", "error"),
    [
        ([], GREEDY, InvalidInputError),
        ([1.5], GREEDY, InvalidInputError),
        (["x"], GREEDY, InvalidInputError),
        ([40], GREEDY, UnknownTokenError),
        ([-1], GREEDY, UnknownTokenError),
        ([1], replace(GREEDY, stop_ids=(40,)), InvalidOptionError),
        ([1], replace(GREEDY, allowed_ids=IdRange(0, 41)), InvalidOptionError),
    ],
)
def test_a_request_that_cannot_run_is_refused_at_once(
    prompt: list[int], params: SamplingParams, error: type[Exception]
) -> None:
    batcher = ContinuousBatcher(TINY, max_batch=1)
    with pytest.raises(error):
        batcher.submit(prompt, params)
    assert_empty(batcher)


@pytest.mark.unit
def test_a_batcher_needs_a_slot() -> None:
    with pytest.raises(InvalidOptionError, match="max_batch"):
        ContinuousBatcher(TINY, max_batch=0)


@pytest.mark.unit
def test_arrays_and_tensors_are_prompts_too() -> None:
    expected = alone(TINY, [1, 2, 3], GREEDY).ids
    batcher = ContinuousBatcher(TINY, max_batch=1)
    assert list(batcher.generate(np.array([1, 2, 3]), GREEDY)) == expected  # type: ignore[arg-type] # arrays are taken
    assert list(batcher.generate(torch.tensor([1, 2, 3]), GREEDY)) == expected  # type: ignore[arg-type] # tensors too


@pytest.mark.unit
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cancelled_request_is_computed_for_no_more(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, log = ContinuousBatcher(TINY, max_batch=1), Log()
    request = batcher.submit([1, 2], GREEDY)
    for _ in range(steps):
        log.add(batcher.step())
    batcher.cancel(request)
    monkeypatch.setattr(TINY, "extend", None)
    log.add(batcher.step())
    assert log.replies[request].finish_reason == FinishReason.CANCELLED
    assert len(log.replies[request].ids) == steps
    assert_empty(batcher)


@pytest.mark.unit
def test_a_prompt_half_read_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_PREFILL_BUDGET_TOKENS", 4)
    monkeypatch.setattr(TINY, "chunk_tokens", lambda start: 4)
    batcher, log = ContinuousBatcher(TINY, max_batch=2), Log()
    other = batcher.submit([7], GREEDY)
    log.add(batcher.step())
    request = batcher.submit(list(range(20)), GREEDY)
    log.add(batcher.step())
    assert batcher._cache.lengths == [2, 4]
    batcher.cancel(request)
    log.run(batcher)
    assert log.replies[request].ids == []
    assert log.replies[other].ids == alone(TINY, [7], GREEDY).ids
    assert_empty(batcher)


@pytest.mark.unit
def test_a_prompt_half_read_survives_that_a_neighbour_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = list(range(20))
    expected = alone(TINY, prompt, GREEDY).ids
    monkeypatch.setattr(batcher_module, "_PREFILL_BUDGET_TOKENS", 4)
    monkeypatch.setattr(TINY, "chunk_tokens", lambda start: 4)
    batcher, log = ContinuousBatcher(TINY, max_batch=3), Log()
    for tokens in (2, 5):
        batcher.submit([7], replace(GREEDY, max_new_tokens=tokens))
        log.add(batcher.step())
    request = batcher.submit(prompt, GREEDY)
    log.add(batcher.step())
    assert batcher._cache.lengths == [2, 4, 0], "the first has left, and both others moved up"
    log.run(batcher)
    assert log.replies[request].ids == expected
    assert_empty(batcher)


@pytest.mark.unit
def test_a_long_prompt_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_PREFILL_BUDGET_TOKENS", 4)
    monkeypatch.setattr(TINY, "chunk_tokens", lambda start: 4)
    batcher, log = ContinuousBatcher(TINY, max_batch=2), Log()
    other = batcher.submit([7], GREEDY)
    log.add(batcher.step())
    request = batcher.submit(list(range(12)), GREEDY)
    for tokens in (2, 3):
        log.add(batcher.step())
        assert len(log.replies[other].ids) == tokens
        assert request not in log.replies
    log.add(batcher.step())
    assert len(log.replies[request].ids) == 1


@pytest.mark.unit
def test_cancelling_what_ended_or_never_was_does_nothing() -> None:
    batcher, log = ContinuousBatcher(TINY, max_batch=1), Log()
    request = batcher.submit([1], GREEDY)
    log.run(batcher)
    batcher.cancel(request)
    batcher.cancel(RequestId(99))
    assert_empty(batcher)


@pytest.mark.unit
def test_a_request_whose_numbers_break_fails_alone_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model breaks on token 39: its own slot fills with NaN, as overflow would do."""
    extend = TINY.extend

    def breaking(input_ids: Tensor, cache: KeyValueCache, first_slot: int = 0) -> Tensor:
        logits = extend(input_ids, cache, first_slot)
        for row, ids in enumerate(input_ids.tolist()):
            if 39 in ids:
                for tensor in (*cache._keys, *cache._values):
                    tensor[first_slot + row] = torch.nan
                logits[row] = torch.nan
        return logits

    params = replace(GREEDY, allowed_ids=IdRange(0, 39))
    expected = [alone(TINY, prompt, params).ids for prompt in ([1, 2], [3], [4, 5, 6])]
    monkeypatch.setattr(TINY, "extend", torch.inference_mode()(breaking))
    batcher, log = ContinuousBatcher(TINY, max_batch=3), Log()
    first = batcher.submit([1, 2], params)
    broken = batcher.submit([8, 39], params)
    second = batcher.submit([3], params)
    log.add(batcher.step())
    third = batcher.submit([4, 5, 6], params)
    log.run(batcher)
    assert log.replies[broken].finish_reason == FinishReason.ERROR
    assert isinstance(log.replies[broken].error, GenerationError)
    assert [log.replies[request].ids for request in (first, second, third)] == expected
    assert_empty(batcher)
    with pytest.raises(GenerationError):
        list(batcher.generate([39], params))
    assert list(batcher.generate([4, 5, 6], params)) == expected[2]


@pytest.mark.unit
def test_generators_consumed_in_turn_run_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = ContinuousBatcher(TINY, max_batch=2)
    rows = []
    extend = TINY.extend

    def counting(input_ids: Tensor, cache: KeyValueCache, first_slot: int = 0) -> Tensor:
        rows.append(len(input_ids))
        return extend(input_ids, cache, first_slot)

    expected = list(zip(alone(TINY, [1, 2], GREEDY).ids, alone(TINY, [3], GREEDY).ids, strict=True))
    monkeypatch.setattr(TINY, "extend", counting)
    pairs = zip(batcher.generate([1, 2], GREEDY), batcher.generate([3], GREEDY), strict=True)
    assert list(pairs) == expected
    assert rows.count(2) == 6, "all but the first token of the one and the last of the other"
    assert_empty(batcher)


@pytest.mark.unit
def test_closing_a_generator_cancels_its_request() -> None:
    batcher = ContinuousBatcher(TINY, max_batch=1)
    reply = batcher.generate([1, 2], GREEDY)
    next(reply)
    reply.close()
    assert [output.finish_reason for output in batcher.step()] == [FinishReason.CANCELLED]
    assert_empty(batcher)


@pytest.mark.unit
def test_a_generator_tells_why_it_ended() -> None:
    batcher = ContinuousBatcher(TINY, max_batch=1)
    reply = batcher.generate([1, 2], replace(GREEDY, max_new_tokens=1))
    next(reply)
    with pytest.raises(StopIteration) as stopped:
        next(reply)
    assert stopped.value.value == FinishReason.LENGTH


@pytest.mark.unit
def test_of_the_waiting_requests_the_one_due_first_joins_first() -> None:
    batcher, log = ContinuousBatcher(TINY, max_batch=1), Log()
    late, soon, as_soon = (batcher.submit([1, 2], GREEDY, due_s=due_s) for due_s in (2.0, 1.0, 1.0))
    log.run(batcher)
    assert list(log.replies) == [soon, as_soon, late]
