"""Step1 with gradients: the room's own layers over whole sequences, and a softmax over what can occur.

The room keeps keys and values in a cache that is written in place; `_Passing` stands in for it and hands each layer its
own back. Padding stands behind a sequence, where no earlier place sees it.

Of the vocabulary only some ids are ever a target. The others share one row of lm_head, that of the lowest of them: in
the softmax it counts as many times as there are others, and `fill_unused` copies it to them all. The full softmax over
the written file is then exactly the one that was trained.
Decides: nothing about data. Refuses to know: what the ids mean.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.shared.nn.step1 import Step1
from services.shared.nn.step1.alibi import alibi_slopes, sqrt_alibi_bias
from services.shared.nn.step1.cache import KeyValueCache
from services.shared.nn.step1.model import _Span


class _Passing:
    """Takes a layer's keys and values and gives them back, as the room's cache does for sequences that start at 0."""

    def __init__(self) -> None:
        self._held: tuple[Tensor, Tensor] | None = None

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        self._held = keys, values

    def read(self, layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        assert self._held is not None
        return self._held


def hidden_states(model: Step1, ids: Tensor) -> Tensor:
    """Run whole sequences, with gradients; ids [B, T] -> [B, T, D] behind the last norm."""
    B, T = ids.shape
    config = model.config
    bias = sqrt_alibi_bias(alibi_slopes(config.num_attention_heads), torch.arange(T)[None], T)
    bias = bias.view(1, config.num_attention_groups, -1, T).expand(B, -1, -1, -1)
    span = _Span(cast(KeyValueCache, _Passing()), slice(0, B), T, T, torch.empty(0), bias)
    out: Tensor = model.model(ids.flatten(), span)
    return out.view(B, T, -1)


@contextmanager
def tapped(model: Step1, layers: int) -> Iterator[list[Tensor]]:
    """Collect what leaves the first `layers` layers: one [B * T, D] for each run inside the context."""
    found: list[Tensor] = []
    layer = model.model.layers[layers - 1]
    handle = layer.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def thinned(model: Step1, share: float) -> Iterator[None]:
    """Drop a share of what each attention and each MLP adds inside the context (dropout on the residual branches)."""
    last = (".o_proj", ".down_proj")
    branches = [module for name, module in model.named_modules() if name.endswith(last)]
    handles = [branch.register_forward_hook(lambda module, inputs, out: F.dropout(out, share)) for branch in branches]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class TargetSoftmax:
    """Cross-entropy over the ids that can be targets, and all others as one.

    Args:
        used: ids, ascending, without repeats.
        vocab_size: V.
    """

    def __init__(self, used: Tensor, vocab_size: int) -> None:
        taken = torch.zeros(vocab_size, dtype=torch.bool)
        taken[used] = True
        self.unused = (~taken).nonzero()[:, 0]
        self._rows = torch.cat([used, self.unused[:1]])
        self._place = torch.zeros(vocab_size, dtype=torch.int64)
        self._place[used] = torch.arange(len(used))
        self._offset = torch.zeros(len(self._rows))
        if len(self.unused):
            self._offset[-1] = math.log(len(self.unused))

    def logits(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        """[N, D] -> [N, K + 1]."""
        return hidden @ head.weight[self._rows].T + self._offset

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
        """Mean cross-entropy of ids [N] under logits [N, K + 1]."""
        return F.cross_entropy(logits, self._place[targets], label_smoothing=smoothing)

    def accuracy(self, logits: Tensor, targets: Tensor) -> float:
        """Share of targets that are the likeliest."""
        return float((logits.argmax(1) == self._place[targets]).float().mean())

    @torch.no_grad()
    def fill_unused(self, head: nn.Linear) -> None:
        """Copy the shared row to every id that is no target."""
        if len(self.unused):
            head.weight[self.unused] = head.weight[self.unused[0]].clone()
