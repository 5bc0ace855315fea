"""The layers of HiFT: weight-normalised convolutions that are folded once, the Snake activation, residual blocks.

Signals run as [B, C, 1, T] in channels-last memory, that is as rows of channels: on a CPU that layout reaches the speed
of a matrix product, where the plain layout of a one-dimensional convolution stays a third below it.

Source: cosyvoice/hifigan/generator.py of the release; Snake is x + sin^2(a x) / a (Ziyin and others, 2020).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormedConv(nn.Module):
    """A convolution or transposed convolution stored as magnitude and direction (`weight_g`, `weight_v`).

    Until `fold` is called the module only holds what the file holds; `fold` computes the weight, once, and drops both.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        padding: int | None = None,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        rows, columns = (inputs, outputs) if transposed else (outputs, inputs)
        self.weight_g = nn.Parameter(torch.ones(rows, 1, 1))
        self.weight_v = nn.Parameter(torch.ones(rows, columns, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("_weight", None, persistent=False)
        self._transposed = transposed
        self._stride = stride
        self._dilation = dilation
        self._padding = dilation * (kernel - 1) // 2 if padding is None else padding

    @torch.no_grad()
    def fold(self) -> None:
        """Compute the weight from magnitude and direction and drop these."""
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(1, 2), keepdim=True))
        self._weight = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        del self.weight_g, self.weight_v

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cin, 1, T] -> [B, Cout, 1, T']."""
        if self._transposed:
            return F.conv_transpose2d(x, self._weight, self.bias, stride=(1, self._stride), padding=(0, self._padding))
        return F.conv2d(
            x, self._weight, self.bias, (1, self._stride), padding=(0, self._padding), dilation=(1, self._dilation)
        )


class PlainConv(nn.Module):
    """A convolution stored as its weight (the source branch has no weight norm)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._stride = stride
        self._padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cin, 1, T] -> [B, Cout, 1, T']."""
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, (1, self._stride), padding=(0, self._padding))


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha with one alpha a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise on [B, C, 1, T]."""
        alpha = self.alpha[:, None, None]
        wave = torch.mul(x, alpha)  # the one buffer that all steps share: memory costs more than arithmetic here
        return wave.sin_().square_().mul_(1.0 / (alpha + 1e-9)).add_(x)


class ResBlock(nn.Module):
    """Pairs of dilated and plain convolutions, each added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(NormedConv(channels, channels, kernel, dilation=d) for d in dilations)
        self.convs2 = nn.ModuleList(NormedConv(channels, channels, kernel) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 1, T] -> [B, C, 1, T]."""
        for snake1, conv1, snake2, conv2 in zip(
            self.activations1, self.convs1, self.activations2, self.convs2, strict=True
        ):
            x = conv2(snake2(conv1(snake1(x)))).add_(x)
        return x


def reach(kernel: int, dilations: Sequence[int]) -> int:
    """How far to each side, in its own samples, a residual block of these sizes looks."""
    return sum((dilation + 1) * (kernel - 1) // 2 for dilation in dilations)
