"""The repetition-aware rule for vLLM's second model runner, which keeps every id on the device.

The runner gives a request a slot, and in each step says which slot a row of logits belongs to and where in its sequence
the row stands; the ids up to there lie in one tensor. So the rule is a few operations on all rows at once, and nothing
waits for the device:

    ids of the slot   … a b a c d e b f g a |        a stands twice among the last ten: -inf for a
                          └── the last ten ─┘ pos

Rows of requests that did not ask, and rows with fewer than ten ids, stay as they are. Draft tokens are not looked at:
speculative decoding is never switched on here.

Source: vLLM's LogitsProcessor of the second runner (vllm.v1.worker.gpu.sample.logits_processor); the rule itself is
`repeated_id`.
"""

from typing import Any, Final

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor, LogitsProcRequestState

from services.shared.decoding.sampling import REPETITION_TIMES, REPETITION_WINDOW_TOKENS
from services.shared.decoding.vllm.repetition import REPETITION_AWARE

SLOT_PROCESSOR: Final = f"{__name__}:RepetitionAwareSlots"
"""As vLLM's worker processes import it."""


class RepetitionAwareSlots(LogitsProcessor):
    """Forbids the repeated id of every row whose request asks for the rule."""

    def __init__(self, vllm_config: Any, req_states: LogitsProcRequestState) -> None:
        """As vLLM makes it, in each worker process."""
        self._states = req_states
        self._asks = torch.zeros(req_states.max_num_reqs, dtype=torch.bool, device=req_states.device)
        self._back = torch.arange(REPETITION_WINDOW_TOKENS, device=req_states.device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise ValueError where the request asks for the rule with anything but a truth value."""
        if not isinstance((sampling_params.extra_args or {}).get(REPETITION_AWARE, False), bool):
            raise ValueError(f"{REPETITION_AWARE} must be true or false")

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """A request takes a slot over; whether it asks for the rule."""
        asks = bool((sampling_params.extra_args or {}).get(REPETITION_AWARE))
        self._asks[req_idx] = asks
        return asks

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        """Set the forbidden ids of logits [R, V] to minus infinity, in place."""
        slots, last = ctx.expanded_idx_mapping.long(), ctx.pos.long()
        places = (last[:, None] - self._back).clamp(min=0)  # [R, 10], the newest first
        window = self._states.all_token_ids.gpu[slots[:, None], places].long()
        newest = window[:, :1]
        repeats = (window == newest).sum(dim=1) >= REPETITION_TIMES
        forbidden = repeats & self._asks[slots] & (last + 1 >= REPETITION_WINDOW_TOKENS)
        kept = logits.gather(1, newest)
        return logits.scatter_(1, newest, kept.masked_fill(forbidden[:, None], -torch.inf))
