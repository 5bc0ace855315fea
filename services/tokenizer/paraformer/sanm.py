"""The SAN-M encoder with memory of earlier chunks, all chunks of a call at once.

The network works on windows of nine rows: five rows of overlap with the past, four new ones. Window i also attends to
the keys and values of the first four rows of windows i-4 … i-1, at the same layer:

    rows       0 . . . . 5 . . . 9
    window i-1 [o o o o o n n n n]                         o overlap   n new
    window i           [o o o o o n n n n]
    memory     the rows 0..3 of each window, at most 16 of them

Run window after window, layer after layer, this is fifty layers of tiny products for every 240 ms. But a layer needs
nothing of another window that the same layer has not computed from the layer before. So the loops can be swapped: every
layer takes all windows as one batch, and the memory of window i is a view into the batch's own rows. The result is the
same, the products are large.

Decides nothing about audio. Source: SANMEncoderChunkOpt of FunASR (streaming path); tensor names are the checkpoint's.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.tokenizer.paraformer.config import FEATURE_DIM, EncoderConfig
from services.tokenizer.paraformer.frontend import CHUNK_ROWS

NEW_ROWS: Final = CHUNK_ROWS
OVERLAP_ROWS: Final = 5
MEMORY_ROWS: Final = 16
"""Rows of earlier windows that a window attends to: four of each of the last four."""

_WINDOW_ROWS: Final = OVERLAP_ROWS + NEW_ROWS
_MEMORY_WINDOWS: Final = MEMORY_ROWS // NEW_ROWS
_KERNEL: Final = 11
_LAYER_NORM_EPS: Final = 1e-12


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What the encoder remembers between chunks.

    Attributes:
        windows: windows done.
        overlap: [5, 560] the last input rows, position encoding included; zeros at first.
        memory: [layers, 16, 2 * D] keys and values side by side, oldest first; zeros where no window was yet.
    """

    windows: int
    overlap: Tensor
    memory: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """What of a call's windows is really there.

    Attributes:
        visible: [W, 1, 1, 16 + 9] true where a key exists, in the memory or the window.
        present: [W, 9, 1] 1 where a row of a window exists, else 0.
    """

    visible: Tensor
    present: Tensor


class SanmEncoder(nn.Module):
    """The whole encoder; parameter names follow the checkpoint's `encoder.*`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders0 = nn.ModuleList([SanmLayer(FEATURE_DIM, config)])
        self.encoders = nn.ModuleList([SanmLayer(config.output_size, config) for _ in range(config.num_blocks - 1)])
        self.after_norm = nn.LayerNorm(config.output_size, eps=_LAYER_NORM_EPS)

    def initial_state(self) -> EncoderState:
        """The state before the first window."""
        like = self.after_norm.weight
        size = self.config.output_size
        return EncoderState(
            0, like.new_zeros(OVERLAP_ROWS, FEATURE_DIM), like.new_zeros(self.config.num_blocks, MEMORY_ROWS, 2 * size)
        )

    def forward(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Encode rows, four to a window; the last window may be shorter where the utterance ends.

        Args:
            features: [N, 560], N >= 1.
            state: from `initial_state` or the call before.

        Returns:
            (rows [N, D], the state after them; it continues an utterance only if N is a multiple of 4).
        """
        rows = torch.cat([state.overlap, self._with_position(features, NEW_ROWS * state.windows)])
        spare = -len(features) % NEW_ROWS  # rows that fill the last window up; nothing attends to them
        windows = F.pad(rows, (0, 0, 0, spare)).unfold(0, _WINDOW_ROWS, NEW_ROWS).transpose(1, 2)  # [W, 9, 560]
        masks = _masks(state.windows, spare, windows)
        encoded, memory = self.run_windows(windows, state.memory, masks)
        overlap = rows[len(rows) - OVERLAP_ROWS :].clone()
        return encoded.flatten(0, 1)[: len(features)], EncoderState(state.windows + len(windows), overlap, memory)

    def run_windows(self, windows: Tensor, memory: Tensor, masks: "Masks | None") -> tuple[Tensor, Tensor]:
        """The network alone: all layers over all windows.

        Args:
            windows: [W, 9, 560] with positions.
            memory: [layers, 16, 2 * D] of the windows before.
            masks: None where every row of every window and memory exists.

        Returns:
            ([W, 4, D] rows, [layers, 16, 2 * D] the memory after them).
        """
        x = windows
        kept = []
        for layer, past in zip([*self.encoders0, *self.encoders], memory.unbind(), strict=True):
            x, after = layer(x, past, masks)
            kept.append(after)
        encoded: Tensor = self.after_norm(x[:, OVERLAP_ROWS:])
        return encoded, torch.stack(kept)

    def _with_position(self, features: Tensor, rows_before: int) -> Tensor:
        """Scale by sqrt(D) and add sinusoids of the row's position in the utterance, counted from 1."""
        half = FEATURE_DIM // 2
        position = torch.arange(1, len(features) + 1, device=features.device, dtype=torch.float32) + rows_before
        step = torch.tensor(10_000.0, device=features.device).log() / (half - 1)
        rate = (torch.arange(half, device=features.device) * -step).exp()
        angle = position[:, None] * rate
        scaled: Tensor = features * self.config.output_size**0.5
        return scaled + torch.cat([angle.sin(), angle.cos()], dim=1).to(features)


class SanmLayer(nn.Module):
    """Pre-norm attention and feed-forward; the residual around attention exists only where the sizes are equal."""

    def __init__(self, in_size: int, config: EncoderConfig) -> None:
        super().__init__()
        size = config.output_size
        self.self_attn = SanmAttention(in_size, size, config.attention_heads)
        self.feed_forward = _FeedForward(size, config.linear_units)
        self.norm1 = nn.LayerNorm(in_size, eps=_LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(size, eps=_LAYER_NORM_EPS)
        self._has_residual = in_size == size

    def forward(self, x: Tensor, past: Tensor, masks: Masks | None) -> tuple[Tensor, Tensor]:
        """[W, 9, in_size] and the memory [16, 2 * D] before it -> ([W, 9, D], the memory after it)."""
        attended, kept = self.self_attn(self.norm1(x), past, masks)
        x = x + attended if self._has_residual else attended
        return x + self.feed_forward(self.norm2(x)), kept


class _FeedForward(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.w_2 = nn.Linear(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.w_1(x)
        output: Tensor = self.w_2(hidden.relu_())
        return output


class SanmAttention(nn.Module):
    """Self-attention over window and memory, plus a depthwise convolution of the window's values (FSMN)."""

    def __init__(self, in_size: int, size: int, heads: int) -> None:
        super().__init__()
        self.linear_q_k_v = nn.Linear(in_size, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(size, size, _KERNEL, groups=size, padding=_KERNEL // 2, bias=False)
        self.heads = heads

    def forward(self, x: Tensor, past: Tensor, masks: Masks | None) -> tuple[Tensor, Tensor]:
        """As `SanmLayer.forward`."""
        projected = self.linear_q_k_v(x)  # [W, 9, 3D]
        size = projected.shape[-1] // 3
        query, own = projected[..., :size], projected[..., size:]
        if masks is not None:
            own = own * masks.present  # the FSMN sees zeros past the end, as in a shorter window
        with_past, kept = _with_memory(own, past)  # [W, 16 + 9, 2D]
        context = F.scaled_dot_product_attention(
            self._split(query),
            self._split(with_past[..., :size]),
            self._split(with_past[..., size:]),
            None if masks is None else masks.visible,
        )
        output = self.linear_out(context.transpose(1, 2).flatten(2))
        attended: Tensor = output + self._fsmn(own[..., size:])
        return attended, kept

    def _split(self, x: Tensor) -> Tensor:
        """[W, R, D] -> [W, H, R, D / H]."""
        W, R, D = x.shape
        return x.view(W, R, self.heads, D // self.heads).transpose(1, 2)

    def _fsmn(self, values: Tensor) -> Tensor:
        """values + depthwise convolution inside each window, as a sum of taps: windows are shorter than the kernel,
        and torch's grouped convolution of so few rows costs more than eleven passes over them. A graph that other
        runtimes read holds the convolution."""
        if torch.compiler.is_exporting():
            out: Tensor = self.fsmn_block(values.transpose(1, 2)).transpose(1, 2)
            return values + out
        taps = self.fsmn_block.weight[:, 0].T  # [11, D]
        padded = F.pad(values, (0, 0, _KERNEL // 2, _KERNEL // 2))
        total = values.clone()
        for shift, tap in enumerate(taps):
            total.addcmul_(padded[:, shift : shift + _WINDOW_ROWS], tap)
        return total


def _with_memory(own: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Put in front of each window the 16 rows it remembers.

    Args:
        own: [W, 9, C] keys and values of the windows.
        past: [16, C] memory before the first window.

    Returns:
        ([W, 16 + 9, C], [16, C] memory after the last window).
    """
    W = own.shape[0]
    line = torch.cat([past.unflatten(0, (_MEMORY_WINDOWS, NEW_ROWS)), own[:, :NEW_ROWS]])  # [4 + W, 4, C]
    before = [line[back : back + W] for back in range(_MEMORY_WINDOWS)]
    return torch.cat([*before, own], dim=1), line[W:].flatten(0, 1)


def all_present(windows: Tensor) -> Masks:
    """The masks where every row exists; [W, 9, 560] windows say how many, of which type and where."""
    W = windows.shape[0]
    visible = torch.ones(W, 1, 1, MEMORY_ROWS + _WINDOW_ROWS, dtype=torch.bool, device=windows.device)
    return Masks(visible, windows.new_ones(W, _WINDOW_ROWS, 1))


def _masks(windows_before: int, spare: int, windows: Tensor) -> Masks | None:
    """The masks of a call, or None where all rows exist: once four windows are in the memory."""
    if windows_before >= _MEMORY_WINDOWS and not spare:
        return None
    W, device = len(windows), windows.device
    first = MEMORY_ROWS - NEW_ROWS * torch.arange(windows_before, windows_before + W, device=device)
    visible = torch.arange(MEMORY_ROWS + _WINDOW_ROWS, device=device) >= first[:, None]
    visible[-1, MEMORY_ROWS + _WINDOW_ROWS - spare :] = False
    present = windows.new_ones(W, _WINDOW_ROWS, 1)
    present[-1, _WINDOW_ROWS - spare :] = 0.0
    return Masks(visible[:, None, None], present)
