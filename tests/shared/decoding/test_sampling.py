"""Choosing tokens: the limits, their order, the recorded repetition rule, and rows that do not touch each other."""

from collections import Counter

import numpy as np
import pytest
import torch

from services.shared.decoding.sampling import TokenChooser, choose_tokens, repeated_id
from services.shared.errors import GenerationError
from services.shared.sampling import IdRange, SamplingParams
from tests.conftest import golden_file, report

LOGITS = torch.tensor([0.0, 3.0, 1.0, 2.0, -1.0])  # by likelihood: ids 1, 3, 2, 0, 4


def chosen(params: SamplingParams, logits: torch.Tensor = LOGITS, times: int = 300) -> Counter[int]:
    """How often each id is chosen."""
    chooser = TokenChooser(params, [0], len(logits))
    counts: Counter[int] = Counter()
    for _ in range(times):
        (token,) = choose_tokens(logits.clone()[None], [chooser])
        assert isinstance(token, int)
        counts[token] += 1
    return counts


@pytest.mark.golden
@pytest.mark.parametrize(
    "case",
    [
        "short9_allsame",
        "exact10_allsame",
        "unique10",
        "twice_in_window",
        "repeat_outside_window",
        "last_unique_others_repeat",
        "batch",
        "batch_mixed",
        "long",
    ],
)
def test_the_repetition_rule_equals_the_recorded_one(case: str) -> None:
    with np.load(golden_file("text/repetition_aware.npz")) as recorded:
        ids, scores, expected = (recorded[f"{case}_{name}"] for name in ("ids", "scores_in", "scores_out"))
    logits = torch.as_tensor(scores)
    for row, history in enumerate(ids.tolist()):
        params = SamplingParams(max_new_tokens=1, repetition_aware=True)
        TokenChooser(params, history, logits.shape[1]).restrict(logits[row])
        assert (repeated_id(history) is not None) == bool(np.isinf(expected[row]).any())
    report(f"repetition rule {case}", logits.exp(), torch.as_tensor(expected).exp(), max_abs=0)


@pytest.mark.unit
def test_the_repetition_rule_sees_the_prompt_and_the_reply() -> None:
    params = SamplingParams(max_new_tokens=1, temperature=0, repetition_aware=True)
    chooser = TokenChooser(params, [0, 0, 0, 0, 0, 0, 0, 0, 4], 5)
    tokens = [choose_tokens(LOGITS.clone()[None], [chooser])[0] for _ in range(4)]
    assert tokens == [1, 1, 3, 1], "the second 1 is the first one that stands twice, and forbids a third"


@pytest.mark.unit
def test_temperature_zero_takes_the_likeliest() -> None:
    assert chosen(SamplingParams(max_new_tokens=1, temperature=0, top_p=0.1)) == {1: 300}


@pytest.mark.unit
def test_a_tiny_temperature_is_certainty() -> None:
    assert chosen(SamplingParams(max_new_tokens=1, temperature=1e-300, seed=0)) == {1: 300}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("top_k", "ids"), [(1, {1}), (2, {1, 3}), (4, {0, 1, 2, 3}), (0, {0, 1, 2, 3, 4}), (99, {0, 1, 2, 3, 4})]
)
def test_top_k_keeps_that_many(top_k: int, ids: set[int]) -> None:
    assert set(chosen(SamplingParams(max_new_tokens=1, temperature=3.0, top_k=top_k, seed=0), times=600)) == ids


@pytest.mark.unit
@pytest.mark.parametrize(
    ("top_p", "ids"), [(0.3, {0}), (0.5, {0}), (0.51, {0, 1}), (0.8, {0, 1}), (0.81, {0, 1, 2}), (1.0, {0, 1, 2})]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, ids: set[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert set(chosen(SamplingParams(max_new_tokens=1, temperature=1.0, top_p=top_p, seed=0), logits)) == ids


@pytest.mark.unit
def test_top_p_counts_among_what_top_k_left_and_after_temperature() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    params = SamplingParams(max_new_tokens=1, temperature=1.0, top_k=2, top_p=0.6, seed=0)
    assert set(chosen(params, logits)) == {0}, "0.5 of the 0.8 that top_k left is more than 0.6"
    params = SamplingParams(max_new_tokens=1, temperature=0.1, top_p=0.9, seed=0)
    assert set(chosen(params, logits)) == {0}, "so cold, the first alone holds more than 0.9"


@pytest.mark.unit
@pytest.mark.parametrize("top_k", [0, 3])
def test_tokens_come_as_often_as_their_probability_says(top_k: int) -> None:
    probabilities = [0.2, 0.5, 0.3]
    logits = torch.tensor(probabilities).log() * 2
    counts = chosen(SamplingParams(max_new_tokens=1, temperature=2.0, top_k=top_k, seed=7), logits, times=5000)
    for token, probability in enumerate(probabilities):
        assert counts[token] / 5000 == pytest.approx(probability, abs=0.025)


@pytest.mark.unit
def test_allowed_ids_hold_the_reply_to_them_and_the_stop_ids() -> None:
    params = SamplingParams(max_new_tokens=1, temperature=5.0, seed=0, allowed_ids=IdRange(2, 4), stop_ids=(4,))
    assert set(chosen(params)) == {2, 3, 4}
    params = SamplingParams(max_new_tokens=1, temperature=0, allowed_ids=IdRange(0, 1))
    assert chosen(params) == {0: 300}


@pytest.mark.unit
def test_a_seed_repeats_and_two_seeds_differ() -> None:
    def draw(seed: int | None) -> list[object]:
        chooser = TokenChooser(SamplingParams(max_new_tokens=1, temperature=2.0, seed=seed), [0], 5)
        return [choose_tokens(LOGITS.clone()[None], [chooser])[0] for _ in range(40)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(None) != draw(None)


@pytest.mark.unit
def test_rows_with_different_parameters_do_not_touch_each_other() -> None:
    choices = [
        SamplingParams(max_new_tokens=1, temperature=0),
        SamplingParams(max_new_tokens=1, temperature=2.0, top_k=3, seed=1),
        SamplingParams(max_new_tokens=1, temperature=2.0, top_k=0, top_p=0.9, seed=2),
        SamplingParams(max_new_tokens=1, temperature=2.0, top_k=3, seed=3, allowed_ids=IdRange(0, 2)),
        SamplingParams(max_new_tokens=1, temperature=2.0, seed=4, repetition_aware=True),
    ]
    rows = torch.randn(30, len(choices), 20, generator=torch.Generator().manual_seed(0))

    def tokens(which: list[int]) -> list[list[object]]:
        choosers = [TokenChooser(choices[row], [1, 2], 20) for row in which]
        steps = [choose_tokens(logits[which].clone(), choosers) for logits in rows]
        return [[step[place] for step in steps] for place in range(len(which))]

    together = tokens([0, 1, 2, 3, 4])
    assert together == [tokens([row])[0] for row in range(5)]
    assert tokens([4, 2, 0]) == [together[4], together[2], together[0]]


@pytest.mark.unit
@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_row_without_a_finite_logit_fails_alone(value: float, temperature: float) -> None:
    params = SamplingParams(max_new_tokens=1, temperature=temperature, seed=0)
    logits = torch.stack([LOGITS, torch.full_like(LOGITS, value), LOGITS])
    first, broken, last = choose_tokens(logits, [TokenChooser(params, [0], 5) for _ in range(3)])
    assert isinstance(broken, GenerationError)
    assert first == last
    assert isinstance(first, int)
