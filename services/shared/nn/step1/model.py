"""The Step1 network: a decoder with sqrt-ALiBi, grouped key/value heads, RMSNorm and a gated feed-forward.

One arithmetic serves all uses. `extend` appends tokens to sequences held in a cache, any number to each of B
neighbouring slots, and each row attends to its own sequence alone: a batch of unequal lengths gives what each row
alone would give. `logits` is that, over a cache of its own. The query heads that share a key/value head are folded
into the query axis, so keys and values are never repeated:

    queries [B, G, H/G * T, head_dim]  x  keys [B, G, L, head_dim]  + bias [B, G, H/G * T, L]

What is sampled, and who sits in which slot, is not known here.

Source: modeling_step1.py of the public checkpoints (the PyTorch path, not its CUDA operator, which drifts from it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from services.shared.errors import InvalidInputError, PromptTooLongError, UnknownTokenError
from services.shared.nn.step1.alibi import alibi_slopes, sqrt_alibi_bias
from services.shared.nn.step1.cache import KeyValueCache
from services.shared.step1_config import Step1Config

IdMatrix = Tensor | NDArray[np.int32] | NDArray[np.int64] | Sequence[Sequence[int]]
"""Ids [B, T]."""

# Elements of one bias [H, T, L]: 128 MiB of fp32, whatever the length of the prompt.
_BIAS_BUDGET: Final = 1 << 25
_LONGEST_CHUNK_TOKENS: Final = 512


@dataclass(frozen=True, slots=True)
class _Span:
    """What all layers share in one call of `extend`: where the new tokens stand, and what they may see."""

    cache: KeyValueCache
    slots: slice  # B of them
    tokens: int  # T, new in each slot
    length: int  # L, keys read from each slot
    places: Tensor  # [B * G * T]
    bias: Tensor  # [B, G, H/G * T, L]


class _Attention(nn.Module):
    def __init__(self, config: Step1Config, layer: int) -> None:
        super().__init__()
        self._layer = layer
        self._groups = config.num_attention_groups
        self._heads_per_group = config.heads_per_group
        self._head_dim = config.head_dim
        narrow = config.num_attention_groups * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, span: _Span) -> Tensor:
        """x [B * T, D] -> [B * T, D]."""
        B, T = len(span.bias), span.tokens
        G, R, d = self._groups, self._heads_per_group, self._head_dim
        keys = self.k_proj(x).view(B, T, G, d).transpose(1, 2)
        values = self.v_proj(x).view(B, T, G, d).transpose(1, 2)
        span.cache.write(self._layer, span.places, keys, values)
        keys, values = span.cache.read(self._layer, span.slots, span.length)
        queries = self.q_proj(x).view(B, T, G, R, d).permute(0, 2, 3, 1, 4).reshape(B, G, R * T, d)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=span.bias)
        mixed = mixed.view(B, G, R, T, d).permute(0, 3, 1, 2, 4).reshape(x.shape)
        out: Tensor = self.o_proj(mixed)
        return out


class _FeedForward(nn.Module):
    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B * T, D] -> [B * T, D]."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Layer(nn.Module):
    def __init__(self, config: Step1Config, layer: int) -> None:
        super().__init__()
        self.self_attn = _Attention(config, layer)
        self.mlp = _FeedForward(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, span: _Span) -> Tensor:
        """x [B * T, D] -> [B * T, D]."""
        x = x + self.self_attn(self.input_layernorm(x), span)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Body(nn.Module):
    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids: Tensor, span: _Span) -> Tensor:
        """input_ids [B * T] -> hidden [B * T, D]."""
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, span)
        out: Tensor = self.norm(x)
        return out


class Step1(nn.Module):
    """The language model, with the parameter names of the public checkpoints.

    Attributes:
        config: its sizes.
    """

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.config = config
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Not a buffer: it is no part of the checkpoint, and it is known without one (also on the meta device).
        with torch.device("cpu"):
            self._slopes = alibi_slopes(config.num_attention_heads)

    def new_cache(self, slots: int) -> KeyValueCache:
        """Return an empty cache on this model's device, in its dtype."""
        weight = self.lm_head.weight
        return KeyValueCache(self.config, slots, device=weight.device, dtype=weight.dtype)

    def chunk_tokens(self, start: int) -> int:
        """How many tokens of a prompt to add at once where `start` are held already.

        It depends on nothing else, so a prompt is cut in the same places whatever runs beside it.
        """
        heads, longest = self.config.num_attention_heads, _LONGEST_CHUNK_TOKENS
        while longest > 1 and heads * longest * (start + longest) > _BIAS_BUDGET:
            longest //= 2
        return longest

    @torch.inference_mode()
    def extend(self, input_ids: Tensor, cache: KeyValueCache, first_slot: int = 0) -> Tensor:
        """Append T tokens to each of B sequences and predict the next of each.

        Args:
            input_ids: ids [B, T], in the vocabulary.
            cache: holds the sequences; row b is slot first_slot + b, whose length grows by T.
            first_slot: slot of row 0.

        Returns:
            logits [B, V] after the last token of each row.
        """
        logits: Tensor = self.lm_head(self._hidden(input_ids, cache, first_slot)[:, -1])
        return logits

    @torch.inference_mode()
    def logits(self, input_ids: IdMatrix) -> Tensor:
        """Logits at every place of B sequences of one length.

        Args:
            input_ids: ids [B, T], torch, numpy or lists.

        Returns:
            [B, T, V].

        Raises:
            InvalidInputError: not a matrix of integers, or empty.
            UnknownTokenError: an id is outside the vocabulary.
            PromptTooLongError: T exceeds max_seq_len.
        """
        ids = self._checked(input_ids)
        cache = self.new_cache(len(ids))
        cache.reserve(ids.shape[1])
        parts = []
        start = 0
        while start < ids.shape[1]:
            end = start + self.chunk_tokens(start)
            parts.append(self.lm_head(self._hidden(ids[:, start:end], cache, 0)))
            start = end
        return torch.cat(parts, dim=1)

    def _checked(self, input_ids: IdMatrix) -> Tensor:
        try:
            ids = torch.as_tensor(input_ids)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidInputError(f"the prompt is no matrix of ids ({error})") from error
        if ids.ndim != 2 or ids.numel() == 0:
            raise InvalidInputError(f"the prompt has shape {list(ids.shape)}; give ids [B, T] with at least one token")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise InvalidInputError(f"the prompt holds {ids.dtype}, not integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.vocab_size:
            wrong = low if low < 0 else high
            raise UnknownTokenError(f"token {wrong} is outside the vocabulary of {self.config.vocab_size}")
        if ids.shape[1] > self.config.max_seq_len:
            raise PromptTooLongError(
                f"{ids.shape[1]} tokens exceed the model's max_seq_len of {self.config.max_seq_len}"
            )
        return ids.to(device=self.lm_head.weight.device, dtype=torch.int64)

    def _hidden(self, input_ids: Tensor, cache: KeyValueCache, first_slot: int) -> Tensor:
        B, T = input_ids.shape
        device, dtype = self.lm_head.weight.device, self.lm_head.weight.dtype
        slots = slice(first_slot, first_slot + B)
        starts = cache.lengths[slots]
        length = max(starts) + T
        cache.reserve(length)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(T, device=device)
        bias = sqrt_alibi_bias(self._slopes.to(device), positions, length)  # [B, H, T, L]
        bias = bias.view(B, self.config.num_attention_groups, -1, length).to(dtype)
        span = _Span(cache, slots, T, length, cache.write_places(first_slot, positions), bias)
        hidden: Tensor = self.model(input_ids.to(device).flatten(), span)
        cache.lengths[slots] = [start + T for start in starts]
        return hidden.view(B, T, -1)
