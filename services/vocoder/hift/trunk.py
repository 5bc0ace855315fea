"""The trunk of HiFT: mel and source -> spectrum of the wave -> wave.

    mel      conv_pre -> [ upsample -> + source branch -> mean of residual blocks ] per stage -> conv_post
    source   short-time spectrum -> downsample -> residual block                 ^
    out      magnitude and phase -> inverse short-time transform -> clamp

Source: cosyvoice/hifigan/generator.py of the release.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS, HiftConfig
from services.vocoder.hift.layers import NormedConv, PlainConv, ResBlock, reach
from services.vocoder.hift.source import analysis_matrix, short_spectrum, synthesis_matrix

_PRE_POST_KERNEL = 7
_MAGNITUDE_LIMIT = 1e2


class Trunk(nn.Module):
    """[1, 80, M] log-mel and [1, 1, N] source -> [1, N] wave, N = M * hop."""

    _analysis: Tensor
    _synthesis: Tensor
    _power: Tensor

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self._config = config
        base, rates = config.base_channels, config.upsample_rates
        sizes = [base >> (stage + 1) for stage in range(len(rates))]
        spectrum = config.fft_size + 2
        self.conv_pre = NormedConv(MEL_CHANNELS, base, _PRE_POST_KERNEL)
        self.ups = nn.ModuleList(
            NormedConv(2 * size, size, kernel, stride=rate, padding=(kernel - rate) // 2, transposed=True)
            for size, kernel, rate in zip(sizes, config.upsample_kernels, rates, strict=True)
        )
        # How many source frames one step of each stage covers: the product of the later stages' rates.
        covers = [math.prod(rates[stage + 1 :]) for stage in range(len(rates))]
        self.source_downs = nn.ModuleList(
            PlainConv(spectrum, size, 2 * cover if cover > 1 else 1, stride=cover, padding=cover // 2)
            for size, cover in zip(sizes, covers, strict=True)
        )
        self.source_resblocks = nn.ModuleList(
            ResBlock(size, kernel, dilations)
            for size, kernel, dilations in zip(sizes, config.source_kernels, config.source_dilations, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResBlock(size, kernel, dilations)
            for size in sizes
            for kernel, dilations in zip(config.resblock_kernels, config.resblock_dilations, strict=True)
        )
        self.conv_post = NormedConv(sizes[-1], spectrum, _PRE_POST_KERNEL)
        for name in ("_analysis", "_synthesis", "_power"):
            self.register_buffer(name, None, persistent=False)

    def fold(self) -> None:
        """Compute every weight from its magnitude and direction, and the transforms; call once after loading."""
        config, device = self._config, self.conv_pre.bias.device
        for module in self.modules():
            if isinstance(module, NormedConv):
                module.fold()
        self._analysis = analysis_matrix(config.fft_size, device)
        self._synthesis = synthesis_matrix(config.fft_size, device)
        self._power = torch.hann_window(config.fft_size, device=device).square()

    @property
    def reach_frames(self) -> int:
        """Mel frames to each side that one frame of the wave depends on, of the mel and of the source."""
        config = self._config
        from_mel, from_source, scale = float(_PRE_POST_KERNEL // 2), 0.0, 1.0
        for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernels, strict=True)):
            from_mel += kernel / rate / 2 / scale
            from_source += kernel / rate / 2 / scale if stage else 0.0
            scale *= rate
            widest = max(map(reach, config.resblock_kernels, config.resblock_dilations))
            branch = (
                reach(config.source_kernels[stage], config.source_dilations[stage]) + 1
            ) / scale  # its downsampling looks one step further
            from_mel += widest / scale
            from_source = max(from_source, branch) + widest / scale
        tail = _PRE_POST_KERNEL // 2 + config.fft_size / config.fft_hop  # both Fourier transforms look half a window
        return math.ceil(max(from_mel, from_source) + tail / scale)

    def forward(self, mel: Tensor, source: Tensor) -> Tensor:
        """[1, 80, M], [1, 1, N] -> [1, N] within the audio limit."""
        config = self._config
        spectrum = short_spectrum(source, self._analysis, config.fft_hop)
        x = self.conv_pre(mel.unsqueeze(2).contiguous(memory_format=torch.channels_last))
        last = len(self.ups) - 1
        blocks = len(config.resblock_kernels)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, config.leaky_slope, inplace=True))
            if stage == last:
                # One step reflected on the left: the spectrum has one frame more than 1 / hop of the samples.
                x = torch.cat([x[..., 1:2], x], dim=3)
            x.add_(self.source_resblocks[stage](self.source_downs[stage](spectrum)))
            parallel = list(self.resblocks.children())[stage * blocks : (stage + 1) * blocks]
            total: Tensor = parallel[0](x)
            for block in parallel[1:]:
                total.add_(block(x))
            x = total.mul_(1.0 / blocks)
        x = self.conv_post(F.leaky_relu(x, inplace=True))
        return self._to_wave(x[0, :, 0].t())

    def _to_wave(self, rows: Tensor) -> Tensor:
        """[L, fft + 2] log-magnitudes and phase sines -> [1, (L - 1) * hop]."""
        config = self._config
        bins = config.fft_size // 2 + 1
        magnitude = rows[:, :bins].exp().clamp_(max=_MAGNITUDE_LIMIT)
        phase = rows[:, bins:].sin()
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        frames = spectrum @ self._synthesis  # [L, fft], windowed
        window = self._power.expand(rows.shape[0], -1)
        hop, edge = config.fft_hop, config.fft_size // 2
        summed, envelope = _overlap_add(frames, hop), _overlap_add(window, hop)
        wave = (summed / envelope.clamp(min=1e-11))[edge : edge + (rows.shape[0] - 1) * hop]
        return wave.clamp(-config.audio_limit, config.audio_limit)[None]


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """[L, fft] frames, one every hop -> [(L - 1) * hop + fft]."""
    overlaps = frames.shape[1] // hop
    pieces = frames.unflatten(1, (overlaps, hop))
    total = F.pad(pieces[:, 0], (0, 0, 0, overlaps - 1))
    for shift in range(1, overlaps):
        total = total + F.pad(pieces[:, shift], (0, 0, shift, overlaps - 1 - shift))
    return total.flatten()
