"""The repetition-aware rule as vLLM's logits processor, in vLLM's own types."""

from dataclasses import dataclass, field

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: it has an environment of its own")

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality
from vllm.v1.sample.logits_processor.interface import AddedRequest, MovedRequest

from services.shared.decoding.sampling import repeated_id
from services.shared.decoding.vllm.repetition import PROCESSOR, REPETITION_AWARE, RepetitionAwareLogits

pytestmark = pytest.mark.unit

VOCABULARY = 6
ASKING = SamplingParams(extra_args={REPETITION_AWARE: True})
SILENT = SamplingParams()


def processor() -> RepetitionAwareLogits:
    return RepetitionAwareLogits(None, torch.device("cpu"), False)


def update(
    size: int, *, removed: list[int] | None = None, added: list[AddedRequest] | None = None,
    moved: list[MovedRequest] | None = None,
) -> BatchUpdate:  # fmt: skip
    return BatchUpdate(batch_size=size, removed=removed or [], added=added or [], moved=moved or [])


def forbidden(rule: RepetitionAwareLogits, rows: int) -> list[int | None]:
    """The id that each row may not choose."""
    logits = rule.apply(torch.zeros(rows, VOCABULARY))
    assert set(logits.unique().tolist()) <= {0.0, -torch.inf}
    return [next(iter(row.isinf().nonzero().flatten().tolist()), None) for row in logits]


def test_vllm_finds_it_by_its_name() -> None:
    module, name = PROCESSOR.split(":")
    assert (module, name) == (RepetitionAwareLogits.__module__, "RepetitionAwareLogits")
    assert issubclass(RepetitionAwareLogits, LogitsProcessor)
    assert not processor().is_argmax_invariant()


def test_a_row_that_asks_may_not_repeat_and_others_may() -> None:
    rule = processor()
    repeating = [0, 1, 2, 3, 4, 0, 1, 2, 5, 5]
    rule.update_state(update(2, added=[(0, ASKING, repeating, []), (1, SILENT, repeating, [])]))
    assert forbidden(rule, 2) == [5, None]


def test_the_window_runs_over_prompt_and_output_and_output_grows_in_place() -> None:
    rule, output = processor(), list[int]()
    rule.update_state(update(1, added=[(0, ASKING, [0, 1, 2, 3, 4, 0, 1, 2, 5], output)]))
    assert forbidden(rule, 1) == [None], "nine ids are too few for the rule"
    output.append(5)
    rule.update_state(None)
    assert forbidden(rule, 1) == [5]
    output.append(3)
    assert forbidden(rule, 1) == [3]
    output += [4, 4, 4, 4, 4, 4, 4, 4, 4]
    assert forbidden(rule, 1) == [4]


def test_a_prompt_that_vllm_does_not_know_counts_for_nothing() -> None:
    rule, output = processor(), [5] * 9
    rule.update_state(update(1, added=[(0, ASKING, None, output)]))
    assert forbidden(rule, 1) == [None]
    output.append(5)
    assert forbidden(rule, 1) == [5]


def test_rows_follow_requests_that_leave_swap_and_move() -> None:
    rule = processor()
    added: list[AddedRequest] = [(row, ASKING, [row] * 10, []) for row in range(4)]
    rule.update_state(update(4, added=added))
    assert forbidden(rule, 4) == [0, 1, 2, 3]
    rule.update_state(update(4, moved=[(0, 2, MoveDirectionality.SWAP)]))
    assert forbidden(rule, 4) == [2, 1, 0, 3]
    rule.update_state(update(3, removed=[1], moved=[(3, 1, MoveDirectionality.UNIDIRECTIONAL)]))
    assert forbidden(rule, 3) == [2, 3, 0]
    rule.update_state(update(3, added=[(0, SILENT, [2] * 10, [])]))
    assert forbidden(rule, 3) == [None, 3, 0], "a row that is taken over forgets its last request"


@dataclass
class Request:
    name: int
    asks: bool
    prompt: list[int]
    output: list[int] = field(default_factory=list)


@settings(max_examples=60)
@given(st.data())
def test_any_traffic_gives_every_row_what_the_rule_says_of_its_own_ids(data: st.DataObject) -> None:
    """Requests join, leave and gain ids as vLLM's persistent batch has it: the last row fills a gap."""
    rule, rows = processor(), list[Request]()
    ids = st.integers(0, VOCABULARY - 1)
    for name in range(data.draw(st.integers(1, 12))):
        removed, moved, added = list[int](), list[MovedRequest](), list[AddedRequest]()
        leaves: bool = data.draw(st.booleans())
        if rows and leaves:
            gap = data.draw(st.integers(0, len(rows) - 1))
            removed.append(gap)
            if gap != len(rows) - 1:
                moved.append((len(rows) - 1, gap, MoveDirectionality.UNIDIRECTIONAL))
                rows[gap] = rows[-1]
            rows.pop()
        else:
            new = Request(name, data.draw(st.booleans()), data.draw(st.lists(ids, max_size=12)))
            added.append((len(rows), ASKING if new.asks else SILENT, new.prompt, new.output))
            rows.append(new)
        rule.update_state(update(len(rows), removed=removed, added=added, moved=moved))
        for row in rows:
            row.output.append(data.draw(ids))
        wanted = [repeated_id(row.prompt + row.output) if row.asks else None for row in rows]
        assert forbidden(rule, len(rows)) == wanted
