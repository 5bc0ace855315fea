"""The network: golden numbers, and that batches, caches and chunks change nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidInputError, PromptTooLongError, UnknownTokenError
from services.shared.nn.step1 import Step1, load_step1
from services.shared.nn.step1 import cache as cache_module
from services.shared.nn.step1 import model as model_module
from services.shared.nn.step1.alibi import alibi_slopes, sqrt_alibi_bias
from services.shared.nn.step1.model import IdMatrix
from tests.conftest import golden_file, report
from tests.shared.step1.tiny import tiny_step1

TINY = tiny_step1()
Recorded = dict[str, Any]
"""Arrays of ids and of logits, as the file holds them."""


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    with np.load(golden_file("step1/io.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def released() -> Step1:
    return load_step1(golden_file("step1/model.safetensors").parent)


@pytest.mark.golden
@pytest.mark.parametrize(("case", "last"), [("short", 12), ("long", 32), ("batch", 17)])
def test_logits_equal_the_recorded_ones(released: Step1, recorded: Recorded, case: str, last: int) -> None:
    expected = recorded[f"{case}_logits" if case != "long" else "long_logits_last32"]
    logits = released.logits(recorded[f"{case}_ids"])
    assert logits.shape[:2] == recorded[f"{case}_ids"].shape
    report(f"step1 {case} logits", logits[:, -last:], expected, max_abs=1e-4)


@pytest.mark.golden
def test_greedy_ids_with_the_cache_equal_the_recorded_ones(released: Step1, recorded: Recorded) -> None:
    cache = released.new_cache(1)
    logits = released.extend(torch.as_tensor(recorded["short_ids"]), cache)
    ids = []
    for _ in range(32):
        ids.append(int(logits.argmax()))
        logits = released.extend(torch.tensor([ids[-1:]]), cache)
    assert ids == recorded["greedy_ids"].tolist()


@pytest.mark.golden
@pytest.mark.parametrize(("case", "bound"), [("short", 1e-5), ("batch", 1e-5), ("long", 2e-5)])
def test_cached_logits_equal_the_full_pass(released: Step1, recorded: Recorded, case: str, bound: float) -> None:
    """The long case has a wider bound: its recorded logits themselves are 1.5e-5 from a double-precision pass."""
    ids = torch.as_tensor(recorded[f"{case}_ids"])
    cache = released.new_cache(len(ids))
    cached = torch.stack([released.extend(ids[:, place : place + 1], cache) for place in range(ids.shape[1])], dim=1)
    report(f"step1 {case} cached against full", cached, released.logits(ids), max_abs=bound)


@pytest.mark.golden
def test_slopes_and_bias_equal_the_recorded_ones(recorded: Recorded) -> None:
    slopes = alibi_slopes(4)
    report("step1 slopes", slopes, recorded["alibi_slopes"], max_abs=1e-7)
    bias = sqrt_alibi_bias(slopes, torch.arange(5)[None], 5)
    expected = torch.as_tensor(recorded["alibi_bias_5"])
    assert torch.equal(bias.isinf(), expected.isinf())
    report("step1 bias", bias.exp(), expected.exp(), max_abs=1e-7)


@pytest.mark.unit
@given(st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=12), min_size=1, max_size=5), st.integers(0, 3))
@settings(max_examples=40, derandomize=True)
def test_a_batch_of_unequal_lengths_equals_single_runs(prompts: list[list[int]], steps: int) -> None:
    cache = TINY.new_cache(len(prompts))
    logits = torch.cat([TINY.extend(torch.tensor([ids]), cache, slot) for slot, ids in enumerate(prompts)])
    sequences = [list(ids) for ids in prompts]
    for _ in range(steps):
        newest = logits.argmax(-1)
        for sequence, token in zip(sequences, newest.tolist(), strict=True):
            sequence.append(token)
        logits = TINY.extend(newest[:, None], cache)
    for row, sequence in enumerate(sequences):
        alone = TINY.logits([sequence])[0, -1]
        assert torch.allclose(logits[row], alone, atol=1e-5), f"row {row} of {len(prompts)}"


@pytest.mark.unit
def test_a_long_prompt_read_in_chunks_equals_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(40, (2, 50), generator=torch.Generator().manual_seed(1))
    whole = TINY.logits(ids)
    monkeypatch.setattr(model_module, "_BIAS_BUDGET", 6 * 3 * 25)
    assert TINY.chunk_tokens(0) < 50
    assert TINY.chunk_tokens(0) > TINY.chunk_tokens(40) >= 1
    assert torch.allclose(TINY.logits(ids), whole, atol=1e-5)


@pytest.mark.unit
def test_no_place_sees_what_comes_after_it() -> None:
    ids = torch.randint(40, (1, 20), generator=torch.Generator().manual_seed(2))
    changed = ids.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % 40
    before, after = TINY.logits(ids), TINY.logits(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.unit
def test_places_a_slot_held_before_do_not_matter() -> None:
    ids = torch.tensor([[5, 6, 7]])
    cache = TINY.new_cache(2)
    TINY.extend(torch.randint(40, (2, 30)), cache)
    cache.lengths[:] = [0, 0]
    assert torch.allclose(TINY.extend(ids, cache), TINY.logits(ids)[:, -1], atol=1e-5)


@pytest.mark.unit
def test_a_sequence_moved_to_another_slot_goes_on_unchanged() -> None:
    ids = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(3))
    cache = TINY.new_cache(3)
    TINY.extend(ids, cache)
    cache.move(2, 0)
    assert cache.lengths == [9, 9, 0]
    expected = TINY.logits(torch.cat([ids[2], torch.tensor([4])])[None])[:, -1]
    assert torch.allclose(TINY.extend(torch.tensor([[4]]), cache), expected, atol=1e-5)


@pytest.mark.unit
def test_the_cache_grows_without_losing_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_CAPACITY_STEP_TOKENS", 4)
    ids = torch.randint(40, (2, 64), generator=torch.Generator().manual_seed(4))
    cache = TINY.new_cache(2)
    capacities = []
    for place in range(64):
        logits = TINY.extend(ids[:, place : place + 1], cache)
        capacities.append(cache.capacity_tokens)
    assert torch.allclose(logits, TINY.logits(ids)[:, -1], atol=1e-5)
    assert sorted(set(capacities)) == [4, 8, 16, 32, 64]


@pytest.mark.unit
def test_bfloat16_stays_near_full_precision(tmp_path: Path) -> None:
    folder = golden_file("step1/model.safetensors").parent
    ids = torch.randint(512, (1, 40), generator=torch.Generator().manual_seed(5))
    low = load_step1(folder, dtype=torch.bfloat16).logits(ids)
    assert low.dtype == torch.bfloat16
    difference = (low.float() - load_step1(folder).logits(ids)).abs()
    assert 0 < difference.max() < 0.6


@pytest.mark.unit
@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[]], InvalidInputError, "at least one token"),
        ([1, 2], InvalidInputError, "shape"),
        ([[1.5]], InvalidInputError, "not integers"),
        ([[1], [1, 2]], InvalidInputError, "no matrix"),
        ([["a"]], InvalidInputError, "no matrix"),
        ([[40]], UnknownTokenError, "token 40"),
        ([[-1]], UnknownTokenError, "token -1"),
        (np.ones((1, 65), np.int32), PromptTooLongError, "max_seq_len of 64"),
    ],
)
def test_ids_the_model_cannot_read_are_refused(ids: IdMatrix, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TINY.logits(ids)
