"""The UNet that estimates the velocity of the flow, written so that a CPU spends its time in matrix products.

The released estimator is called 2 x 10 times per utterance with the same conditions. Here

    once per utterance   the share of mu, speaker and prompt mel in the first convolutions (`Conditions`), and the time
                         embedding of all steps with every block's projection of it (`times`)
    once per step        the rest, for both halves of the guidance together: B rows conditional, then B unconditional,
                         whose conditions are zero, so that their share of the first convolutions is the bias alone

B utterances of one length T go through together; no row knows of another.

Convolutions work on [B, C, T], transformer blocks on [B, T, C]: one transpose at each border. Queries, keys and values
are three products: joined into one, their rows would lie further apart, and the attention would lose what the join
gains. Module names are those of the released flow.pt.

Source: cosyvoice/flow/decoder.py of the release.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS, EstimatorConfig

_TIME_INPUT = 4 * MEL_CHANNELS
_GROUPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What all steps share of the first block: [2B, C, T] each, B rows conditional, then B without."""

    block: Tensor
    residual: Tensor


class Estimator(nn.Module):
    """Velocity at a state: `velocity(x, conditions, time)`, with the two preparations `conditions` and `times`."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        size = config.channels
        self.time_mlp = _TimeNetwork(size)
        self.down_blocks = nn.ModuleList(
            [
                _Level(config, 4 * MEL_CHANNELS, _Wrapped(nn.Conv1d(size, size, 3, stride=2, padding=1))),
                _Level(config, size, nn.Conv1d(size, size, 3, padding=1)),
            ]
        )
        self.mid_blocks = nn.ModuleList(_Level(config, size, None) for _ in range(config.mid_levels))
        self.up_blocks = nn.ModuleList(
            [
                _Level(config, 2 * size, _Wrapped(nn.ConvTranspose1d(size, size, 4, stride=2, padding=1))),
                _Level(config, 2 * size, nn.Conv1d(size, size, 3, padding=1)),
            ]
        )
        self.final_block = _ConvBlock(size, size)
        self.final_proj = nn.Conv1d(size, MEL_CHANNELS, 1)

    def conditions(self, mu: Tensor, speaker: Tensor, prompt: Tensor) -> Conditions:
        """The share of the conditions in the first convolutions.

        Args:
            mu: [B, 80, T].
            speaker: [B, 80].
            prompt: [B, 80, T], the prompt mel and zeros after it.
        """
        fixed = torch.cat([mu, speaker[:, :, None].expand_as(mu), prompt.to(mu.dtype)], dim=1)
        fixed = torch.cat([fixed, torch.zeros_like(fixed)])  # [2B, 240, T]
        first = self._levels()[0].resnet
        conv, residual = first.block1.conv, first.res_conv
        return Conditions(
            F.conv1d(fixed, conv.weight[:, MEL_CHANNELS:], conv.bias, padding=1),
            F.conv1d(fixed, residual.weight[:, MEL_CHANNELS:], residual.bias),
        )

    def times(self, steps: Tensor) -> list[tuple[Tensor, ...]]:
        """Per step, each level's projection of the time embedding.

        Args:
            steps: [S] float32 times in 0..1.

        Returns:
            S tuples, one [C, 1] tensor for each level in the order they run.
        """
        embedded = mish(self.time_mlp(steps))  # [S, 4C]
        projected = torch.stack([level.resnet.project(embedded) for level in self._levels()], dim=1)  # [S, levels, C]
        return [tuple(row[:, :, None].unbind()) for row in projected]

    def velocity(self, x: Tensor, conditions: Conditions, time: tuple[Tensor, ...]) -> Tensor:
        """Estimate both halves of the guidance.

        Args:
            x: [B, 80, T] the states.
            conditions: of these utterances.
            time: one entry of `times`.

        Returns:
            [2B, 80, T]: B rows conditional, then B unconditional.
        """
        levels = list(zip(self._levels(), time, strict=True))
        (first, first_time), (second, second_time) = levels[:2]
        wide = first.transform(first.resnet.first(x, conditions, first_time))  # [2B, C, T]
        narrow = second(first.resample(wide), second_time)  # [2, C, T / 2]
        hidden = second.resample(narrow)
        for level, moment in levels[2:-2]:
            hidden = level(hidden, moment)
        for (level, moment), skip in zip(levels[-2:], (narrow, wide), strict=True):
            hidden = level.resample(level(torch.cat([hidden[:, :, : skip.shape[2]], skip], dim=1), moment))
        out: Tensor = self.final_proj(self.final_block(hidden))
        return out

    def _levels(self) -> "list[_Level]":
        levels = [*self.down_blocks, *self.mid_blocks, *self.up_blocks]
        return [level for level in levels if isinstance(level, _Level)]


def time_sinusoids(steps: Tensor) -> Tensor:
    """[S] times in 0..1 -> [S, 320] sines then cosines, in float32."""
    half = _TIME_INPUT // 2
    rate = torch.exp(torch.arange(half, dtype=torch.float32, device=steps.device) * -(math.log(10000.0) / (half - 1)))
    angle = 1000.0 * steps.float()[:, None] * rate
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


def mish(x: Tensor) -> Tensor:
    """x tanh(softplus(x)) through one exponential, a quarter of the cost of torch's own on a CPU.

    tanh(ln(1 + e)) = 1 - 2 / ((1 + e)^2 + 1) with e = exp(x); an infinite e gives 1, as it should. In float32 the
    result is within 2e-6 of the exact one; other dtypes are computed in it.
    """
    exact = x.float()
    rest = torch.exp(exact).add_(1.0).square_().add_(1.0).reciprocal_()
    return torch.addcmul(exact, exact, rest, value=-2.0).to(x.dtype)


class _TimeNetwork(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(_TIME_INPUT, 4 * size)
        self.linear_2 = nn.Linear(4 * size, 4 * size)

    def forward(self, steps: Tensor) -> Tensor:
        hidden = F.silu(self.linear_1(time_sinusoids(steps).to(self.linear_1.weight.dtype)))
        out: Tensor = self.linear_2(hidden)
        return out


class _Level(nn.ModuleList):
    """A residual block, its transformer blocks, and (but for the middle) what changes the resolution after them."""

    def __init__(self, config: EstimatorConfig, inputs: int, resample: nn.Module | None) -> None:
        blocks = nn.ModuleList(_TransformerBlock(config) for _ in range(config.blocks_per_level))
        parts: list[nn.Module] = [_ResnetBlock(inputs, config.channels, 4 * config.channels), blocks]
        super().__init__(parts if resample is None else [*parts, resample])

    @property
    def resnet(self) -> "_ResnetBlock":
        block = self[0]
        assert isinstance(block, _ResnetBlock)
        return block

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.transform(self.resnet(x, time))

    def transform(self, hidden: Tensor) -> Tensor:
        """Run the transformer blocks on a convolution's layout; [B, C, T] -> [B, C, T]."""
        rows = hidden.transpose(1, 2).contiguous()
        for block in self[1].children():
            rows = block(rows)
        return rows.transpose(1, 2).contiguous()

    def resample(self, hidden: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T / 2], [B, C, T] or [B, C, 2 T]."""
        out: Tensor = self[2](hidden)
        return out


def _for_both(rows: Tensor) -> Tensor:
    """[B, C, T] for both halves of the guidance; one row is left to broadcasting."""
    return rows if rows.shape[0] == 1 else torch.cat([rows, rows])


class _Wrapped(nn.Module):
    """A resampling convolution under the released name `conv`."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _ConvBlock(nn.Module):
    """Convolution, group norm, Mish."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.ModuleList([nn.Conv1d(inputs, outputs, 3, padding=1), nn.GroupNorm(_GROUPS, outputs)])

    @property
    def conv(self) -> nn.Conv1d:
        conv = self.block[0]
        assert isinstance(conv, nn.Conv1d)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.conv(x))

    def finish(self, convolved: Tensor) -> Tensor:
        return mish(self.block[1](convolved))


class _ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, time_size: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleList([nn.Mish(), nn.Linear(time_size, outputs)])
        self.block1 = _ConvBlock(inputs, outputs)
        self.block2 = _ConvBlock(outputs, outputs)
        self.res_conv = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self._finish(self.block1(x), self.res_conv(x), time)

    def project(self, embedded: Tensor) -> Tensor:
        """The share of the time, from its activated embedding; [S, 4C] -> [S, C]."""
        out: Tensor = self.mlp[1](embedded)
        return out

    def first(self, x: Tensor, conditions: Conditions, time: Tensor) -> Tensor:
        """The block whose input is the state beside conditions that were convolved beforehand."""
        conv = self.block1.conv
        state = x.to(conv.weight.dtype)
        convolved = conditions.block + _for_both(F.conv1d(state, conv.weight[:, :MEL_CHANNELS], padding=1))
        residual = conditions.residual + _for_both(F.conv1d(state, self.res_conv.weight[:, :MEL_CHANNELS]))
        return self._finish(self.block1.finish(convolved), residual, time)

    def _finish(self, hidden: Tensor, residual: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.block2(hidden.add_(time))
        return out.add_(residual)


class _TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward; there is no norm2 in the released names."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        size = config.channels
        self.norm1 = nn.LayerNorm(size, eps=1e-5)
        self.attn1 = _Attention(size, config.heads, config.head_size)
        self.norm3 = nn.LayerNorm(size, eps=1e-5)
        self.ff = _FeedForward(size)

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.add_(self.attn1(self.norm1(rows)))
        return rows.add_(self.ff(self.norm3(rows)))


class _FeedForward(nn.Module):
    """Linear, GELU, linear, under the released names `net.0.proj` and `net.2`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        widen = nn.ModuleDict({"proj": nn.Linear(size, 4 * size)})
        self.net = nn.ModuleList([widen, nn.Identity(), nn.Linear(4 * size, size)])

    def forward(self, rows: Tensor) -> Tensor:
        widen, _, narrow = self.net.children()
        assert isinstance(widen, nn.ModuleDict)
        out: Tensor = narrow(F.gelu(widen["proj"](rows)))
        return out


class _Attention(nn.Module):
    def __init__(self, size: int, heads: int, head_size: int) -> None:
        super().__init__()
        inner = heads * head_size
        self.heads = heads
        self.to_q = nn.Linear(size, inner, bias=False)
        self.to_k = nn.Linear(size, inner, bias=False)
        self.to_v = nn.Linear(size, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, size)])

    def forward(self, rows: Tensor) -> Tensor:
        q, k, v = (
            layer(rows).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )  # [B, H, T, d]
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(2))
        return out
