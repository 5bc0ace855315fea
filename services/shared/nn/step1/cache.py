"""Keys and values of the sequences in flight: one slot each, of unequal lengths, with room that grows.

    slot 0   k k k k k k · · ·      length 6        a step over slots 0..2 reads columns 0..5 of all three;
    slot 1   k k · · · · · · ·      length 2        the bias hides what lies after a row's own length
    slot 2   k k k k · · · · ·      length 4

Slots in use are kept side by side by `move`, so that a step reads them as one view, without gathering. Who sits in
which slot is the batcher's business. Every place holds finite numbers at all times (zeros at first): a hidden place
still enters the arithmetic, and there NaN would not stay hidden.
"""

from typing import Final

import torch
from torch import Tensor

from services.shared.step1_config import Step1Config

_CAPACITY_STEP_TOKENS: Final = 256


class KeyValueCache:
    """Keys and values [layers][slots, G, capacity, head_dim], and the length of every slot.

    Attributes:
        lengths: tokens held by each slot; `Step1.extend` adds to them, `move` and `clear` set them.
        capacity_tokens: tokens that fit in a slot before the cache grows.
    """

    def __init__(self, config: Step1Config, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self._max_tokens = config.max_seq_len
        self._groups = config.num_attention_groups
        shape = (slots, config.num_attention_groups, 0, config.head_dim)
        layers = range(config.num_hidden_layers)
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in layers]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for _ in layers]
        self.capacity_tokens = 0
        self.lengths = [0] * slots

    @torch.inference_mode()
    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in every slot; doubles, so that growing stays cheap on the whole."""
        if tokens <= self.capacity_tokens:
            return
        wanted = max(tokens, 2 * self.capacity_tokens)
        wanted = min(-(-wanted // _CAPACITY_STEP_TOKENS) * _CAPACITY_STEP_TOKENS, max(tokens, self._max_tokens))
        for tensors in (self._keys, self._values):
            # One layer at a time: the old and the new room of a single layer stand side by side, never of all.
            for layer, old in enumerate(tensors):
                new = old.new_zeros((*old.shape[:2], wanted, old.shape[3]))
                new[:, :, : self.capacity_tokens] = old
                tensors[layer] = new
        self.capacity_tokens = wanted

    def write_places(self, first_slot: int, positions: Tensor) -> Tensor:
        """Rows of `write` for tokens at `positions` [B, T] of the slots from `first_slot` on.

        Returns:
            [B * G * T], good until the cache grows.
        """
        slots = torch.arange(first_slot, first_slot + len(positions), device=positions.device)
        groups = torch.arange(self._groups, device=positions.device)
        heads = slots[:, None] * self._groups + groups  # [B, G]
        return (heads[:, :, None] * self.capacity_tokens + positions[:, None]).flatten()

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [B, G, T, head_dim] of one layer at `places`."""
        for tensor, new in ((self._keys[layer], keys), (self._values[layer], values)):
            width = tensor.shape[-1]
            tensor.view(-1, width).index_copy_(0, places, new.reshape(-1, width))

    def read(self, layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        """Views of the keys and values of `slots`, places 0..length-1: each [B, G, L, head_dim]."""
        return self._keys[layer][slots, :, :length], self._values[layer][slots, :, :length]

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Copy the sequence of slot `source` to slot `target`, whose own is lost, and empty `source`."""
        length = self.lengths[source]
        for tensor in (*self._keys, *self._values):
            tensor[target, :, :length] = tensor[source, :, :length]
        self.lengths[target] = length
        self.lengths[source] = 0

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Empty a slot and zero its places, for a sequence that may have left numbers that are not finite."""
        for tensor in (*self._keys, *self._values):
            tensor[slot] = 0
        self.lengths[slot] = 0
