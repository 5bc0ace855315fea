"""Numbers gather until they are taken, and are taken once."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.shared.decoding.vllm.stats import StatsTaker

pytestmark = pytest.mark.unit


def scheduler(running: int, waiting: int, used: float, asked: int, found: int) -> Any:
    cache = SimpleNamespace(queries=asked, hits=found)
    return SimpleNamespace(
        num_running_reqs=running, num_waiting_reqs=waiting, kv_cache_usage=used, prefix_cache_stats=cache
    )


def iteration(**numbers: Any) -> Any:
    nothing: dict[str, Any] = {
        "num_preempted_reqs": 0, "num_prompt_tokens": 0, "time_to_first_tokens_iter": [],
        "inter_token_latencies_iter": [], "finished_requests": [],
    }  # fmt: skip
    return SimpleNamespace(**nothing | numbers)


def test_steps_add_up_and_gauges_are_the_newest() -> None:
    taker = StatsTaker()
    taker.record(scheduler(1, 2, 0.25, 10, 4), iteration(num_prompt_tokens=10, time_to_first_tokens_iter=[0.2]))
    taker.record(
        scheduler(3, 0, 0.5, 5, 5),
        iteration(
            num_preempted_reqs=1, num_prompt_tokens=5, inter_token_latencies_iter=[0.01, 0.02],
            finished_requests=[SimpleNamespace(queued_time=0.3)],
        ),
    )  # fmt: skip
    told = taker.take()
    assert (told.running, told.waiting, told.kv_cache_used) == (3, 0, 0.5)
    assert (told.preemptions, told.prompt_tokens) == (1, 15)
    assert (told.prefix_asked_tokens, told.prefix_found_tokens) == (15, 9)
    assert [list(told.first_token_s), list(told.token_interval_s), list(told.queued_s)] == [[0.2], [0.01, 0.02], [0.3]]


def test_what_was_taken_is_not_told_again_but_gauges_stand() -> None:
    taker = StatsTaker()
    taker.record(scheduler(2, 1, 0.1, 3, 3), iteration(num_prompt_tokens=3, time_to_first_tokens_iter=[0.1]))
    taker.take()
    told = taker.take()
    assert (told.running, told.waiting, told.kv_cache_used) == (2, 1, 0.1)
    assert (told.prompt_tokens, told.prefix_asked_tokens, len(told.first_token_s)) == (0, 0, 0)


def test_a_step_may_leave_out_either_part() -> None:
    taker = StatsTaker()
    taker.record(None, None)
    taker.record(None, iteration(num_prompt_tokens=4))
    assert taker.take().prompt_tokens == 4


def test_times_that_nobody_takes_are_bounded() -> None:
    taker = StatsTaker()
    for _ in range(20):
        taker.record(None, iteration(inter_token_latencies_iter=[0.01] * 1000))
    assert len(taker.take().token_interval_s) == 16_384
