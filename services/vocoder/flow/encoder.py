"""The conformer encoder over speech tokens, and the length regulator that stretches its rows to mel frames.

Pre-norm blocks of relative self-attention and a feed-forward, without convolution and without masks: a whole utterance
is attended at once. Module names are those of the released flow.pt.

Source: the encoder and the length regulator of CosyVoice 1 as released (espnet's relative positions).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS, EncoderConfig


class ConformerEncoder(nn.Module):
    """[B, T, input] token embeddings -> [B, T, D] rows."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.size = config.output_size
        self.embed = _InputLayer(config)
        self.encoders = nn.ModuleList(_Block(config) for _ in range(config.num_blocks))
        self.after_norm = nn.LayerNorm(config.output_size, eps=1e-5)

    def forward(self, embedded: Tensor) -> Tensor:
        """Encode a whole sequence; [B, T, input] -> [B, T, D]."""
        x: Tensor = self.embed(embedded)
        positions = relative_positions(x.shape[1], self.size, x.device).to(x.dtype)
        for block in self.encoders:
            x = block(x, positions)
        out: Tensor = self.after_norm(x)
        return out


class _InputLayer(nn.Module):
    """Projection, norm, and the scale that espnet gives together with its positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = config.output_size
        self.out = nn.ModuleList([nn.Linear(config.input_size, size), nn.LayerNorm(size, eps=1e-5)])
        self._scale = math.sqrt(size)

    def forward(self, embedded: Tensor) -> Tensor:
        projection, norm = self.out.children()
        out: Tensor = norm(projection(embedded))
        return out * self._scale


class _FeedForward(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.w_1 = nn.Linear(config.output_size, config.linear_units)
        self.w_2 = nn.Linear(config.linear_units, config.output_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(F.silu(self.w_1(x), inplace=True))
        return out


class _Block(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn = _RelativeAttention(config.output_size, config.attention_heads)
        self.feed_forward = _FeedForward(config)
        self.norm_ff = nn.LayerNorm(config.output_size, eps=1e-5)
        self.norm_mha = nn.LayerNorm(config.output_size, eps=1e-5)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm_mha(x), positions)
        out: Tensor = x + self.feed_forward(self.norm_ff(x))
        return out


class _RelativeAttention(nn.Module):
    """scores = ((q + u) k^T + shift((q + v) p^T)) / sqrt(head size)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(size, size)
        self.linear_k = nn.Linear(size, size)
        self.linear_v = nn.Linear(size, size)
        self.linear_out = nn.Linear(size, size)
        self.linear_pos = nn.Linear(size, size, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, size // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, size // heads))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.linear_q, self.linear_k, self.linear_v))  # [B, H, T, d]
        p = self._split(self.linear_pos(positions))  # [1, H, 2T-1, d]
        scale = q.shape[-1] ** -0.5
        by_distance = ((q + self.pos_bias_v[:, None]) * scale) @ p.transpose(2, 3)  # [B, H, T, 2T-1]
        mixed = F.scaled_dot_product_attention(
            q + self.pos_bias_u[:, None], k, v, attn_mask=shift_to_keys(by_distance), scale=scale
        )
        out: Tensor = self.linear_out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


def shift_to_keys(by_distance: Tensor) -> Tensor:
    """Re-index scores by distance into scores by key: out[i, j] = by_distance[i, T-1-(i-j)]; a view, nothing moves.

    Args:
        by_distance: [B, H, T, 2T-1], column 0 for distance T-1 (the key lies before the query), the last for -(T-1).

    Returns:
        [B, H, T, T].
    """
    if torch.compiler.is_exporting():
        return _shift_by_copies(by_distance)
    scores = by_distance.contiguous()
    batch, heads, rows, columns = scores.shape
    return scores.as_strided(
        (batch, heads, rows, rows),
        (heads * rows * columns, rows * columns, columns - 1, 1),
        scores.storage_offset() + rows - 1,
    )


def _shift_by_copies(by_distance: Tensor) -> Tensor:
    """`shift_to_keys` for graph formats, which know no strides: one column more makes each row start one further left.

    Row i of [T, 2T] read as rows of 2T-1 begins i columns to the left of where the row before it began.
    """
    rows, columns = by_distance.shape[2:]
    flat = F.pad(by_distance, (1, 0)).flatten(2)[:, :, rows:]
    shifted: Tensor = flat.unflatten(2, (rows, columns))
    return shifted[..., :rows]


def relative_positions(length: int, size: int, device: torch.device) -> Tensor:
    """Sinusoids of the distances T-1 .. -(T-1); [1, 2T-1, D] float32, sines in even columns, cosines in odd ones."""
    distance = torch.arange(length - 1, -length, -1, dtype=torch.float32, device=device)[:, None]
    rate = torch.exp(torch.arange(0, size, 2, dtype=torch.float32, device=device) * -(math.log(10000.0) / size))
    angle = distance * rate
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(1)[None]


class LengthRegulator(nn.Module):
    """Stretches encoder rows to mel frames, prompt and target apart, then smooths the joined sequence."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Conv1d(MEL_CHANNELS, MEL_CHANNELS, 3, padding=1), nn.GroupNorm(1, MEL_CHANNELS), nn.Mish()]
        parts.append(nn.Conv1d(MEL_CHANNELS, MEL_CHANNELS, 1))
        self.model = nn.Sequential(*parts)

    def forward(self, prompt: Tensor, target: Tensor) -> Tensor:
        """Join and smooth two stretched parts; [B, M1, 80], [B, M2, 80] -> [B, 80, M1+M2]."""
        joined = torch.cat([prompt, target], dim=1).transpose(1, 2)
        out: Tensor = self.model(joined)
        return out


def stretch(rows: Tensor, frames: int) -> Tensor:
    """Spread rows evenly over frames: linear interpolation with half-pixel centres; [B, T, C] -> [B, frames, C].

    There is at least one row when frames > 0.
    """
    if frames == 0:
        return rows[:, :0]
    return F.interpolate(rows.transpose(1, 2), size=frames, mode="linear", align_corners=False).transpose(1, 2)


def sample_rows(rows: Tensor, places: Tensor) -> Tensor:
    """Linear interpolation at given places, which a stream knows before it knows its length.

    Args:
        rows: [B, T, C].
        places: [M] float64 in rows; outside 0..T-1 the first or last row is taken.

    Returns:
        [B, M, C].
    """
    inside = places.to(rows.device).clamp(0, rows.shape[1] - 1)
    left = inside.long()
    right = (left + 1).clamp(max=rows.shape[1] - 1)
    weight = (inside - left).to(rows.dtype)[None, :, None]
    return torch.lerp(rows[:, left], rows[:, right], weight)
