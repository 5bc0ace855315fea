"""The repetition-aware rule inside vLLM: the last id is forbidden where it stands twice among the last ten.

vLLM keeps the batch in rows that requests join, leave and swap; the processor follows those moves, and looks at each
row's own prompt and output. It is asked for by a request, in its `extra_args`.

Source: vLLM's batch-level LogitsProcessor (vllm.v1.sample.logits_processor); the rule itself is `repeated_id`.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from services.shared.decoding.sampling import REPETITION_WINDOW_TOKENS, repeated_id

REPETITION_AWARE: Final = "repetition_aware"
"""The key of `extra_args` that asks for the rule."""
PROCESSOR: Final = f"{__name__}:RepetitionAwareLogits"
"""As vLLM's worker processes import it."""

_History = tuple[Sequence[int], Sequence[int]]  # prompt, and the output, which vLLM lengthens in place


class RepetitionAwareLogits(LogitsProcessor):
    """Forbids the repeated id of every row that asks for the rule."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        """As vLLM makes it, in each worker process."""
        self._device = device
        self._histories: dict[int, _History] = {}

    def is_argmax_invariant(self) -> bool:
        """Whether greedy replies may skip it: no, the likeliest id may be the forbidden one."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that join, leave and move between rows."""
        process_dict_updates(self._histories, batch_update, _history)

    def apply(self, logits: Tensor) -> Tensor:
        """Set the forbidden ids of logits [B, V] to minus infinity, in place."""
        found = [(row, repeated_id(_newest(*history))) for row, history in self._histories.items()]
        forbidden = [(row, token) for row, token in found if token is not None]
        if forbidden:
            rows, ids = torch.tensor(forbidden, device=self._device).T
            logits[rows, ids] = -torch.inf
        return logits


def _history(params: SamplingParams, prompt_ids: list[int] | None, output_ids: list[int]) -> _History | None:
    asked = bool(params.extra_args and params.extra_args.get(REPETITION_AWARE))
    return (prompt_ids or (), output_ids) if asked else None


def _newest(prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[int]:
    """The last ids of both together, as many as the rule looks at."""
    newest = list(output_ids[-REPETITION_WINDOW_TOKENS:])
    missing = REPETITION_WINDOW_TOKENS - len(newest)
    return [*prompt_ids[-missing:], *newest] if missing else newest
