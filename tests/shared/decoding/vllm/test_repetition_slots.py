"""The repetition-aware rule for vLLM's second model runner, in vLLM's own types."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: it has an environment of its own")

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor, LogitsProcRequestState

from services.shared.decoding.sampling import repeated_id
from services.shared.decoding.vllm.repetition import REPETITION_AWARE
from services.shared.decoding.vllm.repetition_slots import SLOT_PROCESSOR, RepetitionAwareSlots

pytestmark = pytest.mark.unit

VOCABULARY, SLOTS, LONGEST = 6, 4, 40
ASKING = SamplingParams(extra_args={REPETITION_AWARE: True})
SILENT = SamplingParams()


@dataclass
class Held:
    """A tensor as the runner keeps it."""

    gpu: torch.Tensor


class Runner:
    """Slots with their ids, and the processor that reads them."""

    def __init__(self) -> None:
        self.ids = torch.full((SLOTS, LONGEST), 5, dtype=torch.int32)  # what earlier requests left
        self.lengths: dict[int, int] = {}
        lengths: Any = Held(torch.zeros(SLOTS, dtype=torch.int32))
        state = LogitsProcRequestState(
            torch.device("cpu"),
            SLOTS,
            VOCABULARY,
            Held(self.ids),
            lengths,
            lengths,
            lengths,
        )
        self.rule = RepetitionAwareSlots(None, state)

    def add(self, slot: int, params: SamplingParams, ids: list[int]) -> bool:
        self.ids[slot, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        self.lengths[slot] = len(ids)
        return self.rule.add_request(slot, params)

    def forbidden(self, *slots: int) -> list[int | None]:
        """The id that each row may not choose."""
        rows = torch.tensor(slots, dtype=torch.int32)
        last = torch.tensor([self.lengths[slot] - 1 for slot in slots])
        newest = self.ids[rows.long(), last]
        counts = np.array([self.lengths[slot] for slot in slots])
        context = LogitsContext(rows, rows, rows.numpy(), torch.zeros_like(rows), newest, last, counts)
        given = torch.randn(len(slots), VOCABULARY, generator=torch.Generator().manual_seed(0))
        logits = self.rule.apply(given.clone(), context)
        assert torch.equal(logits[logits.isfinite()], given[logits.isfinite()])
        return [next(iter(row.isinf().nonzero().flatten().tolist()), None) for row in logits]


def test_vllm_finds_it_by_its_name() -> None:
    module, name = SLOT_PROCESSOR.split(":")
    assert (module, name) == (RepetitionAwareSlots.__module__, "RepetitionAwareSlots")
    assert issubclass(RepetitionAwareSlots, LogitsProcessor)


def test_a_request_that_asks_may_not_repeat_and_others_may() -> None:
    runner, repeating = Runner(), [0, 1, 2, 3, 4, 0, 1, 2, 5, 5]
    assert runner.add(2, ASKING, repeating)
    assert not runner.add(0, SILENT, repeating)
    assert runner.forbidden(0, 2) == [None, 5]
    assert runner.forbidden(2, 0) == [5, None], "rows come in any order"


def test_fewer_than_ten_ids_forbid_nothing_whatever_lay_in_the_slot() -> None:
    runner = Runner()
    runner.add(1, ASKING, [5])
    assert runner.forbidden(1) == [None]
    runner.add(1, ASKING, [5] * 9)
    assert runner.forbidden(1) == [None]
    runner.add(1, ASKING, [5] * 10)
    assert runner.forbidden(1) == [5]


def test_a_slot_that_is_taken_over_forgets_its_last_request() -> None:
    runner = Runner()
    runner.add(3, ASKING, [1] * 12)
    assert runner.forbidden(3) == [1]
    runner.add(3, SILENT, [1] * 12)
    assert runner.forbidden(3) == [None]


def test_what_is_no_truth_value_is_refused_at_admission() -> None:
    RepetitionAwareSlots.validate_params(ASKING)
    RepetitionAwareSlots.validate_params(SILENT)
    with pytest.raises(ValueError, match="true or false"):
        RepetitionAwareSlots.validate_params(SamplingParams(extra_args={REPETITION_AWARE: "yes"}))


@settings(max_examples=80)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 5), min_size=1, max_size=LONGEST)), max_size=12))
def test_any_traffic_gives_every_row_what_the_rule_says_of_its_own_ids(traffic: list[tuple[bool, list[int]]]) -> None:
    runner, present = Runner(), dict[int, tuple[bool, list[int]]]()
    for turn, (asks, ids) in enumerate(traffic):
        slot = (turn * 3) % SLOTS
        runner.add(slot, ASKING if asks else SILENT, ids)
        present[slot] = asks, ids
        expected = [repeated_id(ids) if asks else None for asks, ids in present.values()]
        assert runner.forbidden(*present) == expected
