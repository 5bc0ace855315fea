"""Choosing the next token of each request from one batch of logits.

Each request keeps its own random numbers and looks at its own row only, so its tokens do not depend on its
neighbours, but for rounding: a larger batch may put two candidates that are as likely as each other in the other order.
Rows are brought together only to find their likeliest candidates in one operation; the choice among those few runs in
numpy, in double precision. The order is that of the released system: the repetition rule, then temperature, top-k,
top-p.

Source: the released generate() calls; the repetition rule from its RepetitionAwareLogitsProcessor.
"""

import random
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.shared.errors import GenerationError
from services.shared.sampling import SamplingParams

REPETITION_WINDOW_TOKENS: Final = 10
REPETITION_TIMES: Final = 2


def repeated_id(history: Sequence[int]) -> int | None:
    """The id that the repetition-aware rule forbids next, if any.

    It is the last id, where it stands at least twice among the last ten; a shorter history forbids nothing.

    Args:
        history: prompt and reply so far; only its last ten ids matter.
    """
    if len(history) < REPETITION_WINDOW_TOKENS:
        return None
    window = [history[-1 - back] for back in range(REPETITION_WINDOW_TOKENS)]
    return window[0] if window.count(window[0]) >= REPETITION_TIMES else None


class TokenChooser:
    """The choices of one request: its parameters, its random numbers and its last ten ids."""

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], vocab_size: int) -> None:
        self.params = params
        self._random = random.Random(params.seed)
        self._history = deque(prompt_ids[-REPETITION_WINDOW_TOKENS:], maxlen=REPETITION_WINDOW_TOKENS)
        self._forbidden = _forbidden(params, vocab_size)

    @property
    def candidates(self) -> int:
        """How many of the likeliest tokens the choice needs; 0 is all."""
        return 1 if self.params.temperature == 0 else self.params.top_k

    def restrict(self, row: Tensor) -> None:
        """Take from one row of logits [V], in place, what this request may not choose."""
        if self._forbidden is not None:
            row.masked_fill_(self._forbidden.to(row.device), -torch.inf)
        if self.params.repetition_aware and (token := repeated_id(self._history)) is not None:
            row[token] = -torch.inf

    def choose(self, logits: NDArray[np.float64], ids: NDArray[np.int64]) -> int:
        """Choose among candidates and remember the choice.

        Args:
            logits: [K], highest first.
            ids: [K].

        Raises:
            GenerationError: the likeliest candidate is not finite.
        """
        if not np.isfinite(logits[0]):
            raise GenerationError("the model gave no finite logit to choose from; try another seed, or fewer limits")
        token = int(ids[0] if self.params.temperature == 0 else ids[self._draw(logits)])
        self._history.append(token)
        return token

    def _draw(self, logits: NDArray[np.float64]) -> int:
        # The highest is subtracted first, so that a very low temperature overflows to certainty, not to NaN.
        with np.errstate(over="ignore"):
            cumulative = np.cumsum(np.exp((logits - logits[0]) / self.params.temperature))
        # A candidate stays while the likelier ones together are below top_p; the first one always stays.
        kept = cumulative[: np.searchsorted(cumulative, self.params.top_p * cumulative[-1]) + 1]
        place = int(np.searchsorted(kept, self._random.random() * kept[-1], side="right"))
        return min(place, len(kept) - 1)


@torch.inference_mode()
def choose_tokens(logits: Tensor, choosers: Sequence[TokenChooser]) -> list[int | GenerationError]:
    """Choose the next token of every row.

    Args:
        logits: [B, V]; changed in place.
        choosers: B.

    Returns:
        For each row its token, or what went wrong with it.
    """
    rows_by_candidates: dict[int, list[int]] = defaultdict(list)
    for row, chooser in enumerate(choosers):
        chooser.restrict(logits[row])
        rows_by_candidates[chooser.candidates].append(row)
    chosen: dict[int, int | GenerationError] = {}
    for candidates, rows in rows_by_candidates.items():
        values, ids = _likeliest(logits if len(rows) == len(choosers) else logits[rows], candidates)
        for row, row_values, row_ids in zip(rows, values, ids, strict=True):
            try:
                chosen[row] = choosers[row].choose(row_values, row_ids)
            except GenerationError as error:
                chosen[row] = error
    return [chosen[row] for row in range(len(choosers))]


def _likeliest(logits: Tensor, candidates: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The candidates of each row, highest first: values [B, K] and ids [B, K]."""
    if candidates == 1:
        values, ids = logits.max(dim=-1, keepdim=True)
    elif 0 < candidates < logits.shape[-1]:
        values, ids = logits.topk(candidates)
    else:
        values, ids = logits.sort(descending=True, stable=True)
    return values.double().cpu().numpy(), ids.cpu().numpy()


def _forbidden(params: SamplingParams, vocab_size: int) -> Tensor | None:
    """Mask [V], true for the ids outside `allowed_ids` and the stop ids; None where all are allowed."""
    if params.allowed_ids is None:
        return None
    forbidden = torch.ones(vocab_size, dtype=torch.bool)
    forbidden[params.allowed_ids.first : params.allowed_ids.end] = False
    forbidden[list(params.stop_ids)] = False
    return forbidden
