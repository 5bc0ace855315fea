"""F0 from mel, and the harmonic source that F0 drives.

The phase of the harmonics is the running sum of F0. It is kept as cycles in double precision, one sum a frame: a
float32 sum over samples drifts audibly within minutes, and a stream must go on where its last chunk stopped.

Source: cosyvoice/hifigan/generator.py of the release (HiFTNet's neural source filter).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS, HiftConfig
from services.vocoder.hift.layers import NormedConv

_F0_LAYERS = 5


class F0Predictor(nn.Module):
    """[1, 80, M] log-mel -> [1, M] F0 in Hz."""

    reach_frames = _F0_LAYERS
    """Frames to each side that one value of F0 depends on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = [MEL_CHANNELS, *([channels] * (_F0_LAYERS - 1))]
        parts: list[nn.Module] = []
        for size in inputs:
            parts += [NormedConv(size, channels, 3), nn.ELU(inplace=True)]
        self.condnet = nn.Sequential(*parts)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """[1, 80, M] -> [1, M]."""
        hidden = self.condnet(mel.unsqueeze(2))  # [1, C, 1, M]
        f0: Tensor = self.classifier(hidden.squeeze(2).transpose(1, 2)).squeeze(2)
        return f0.abs()


@dataclass(frozen=True, slots=True, eq=False)
class Excitation:
    """What is random in the source: phase [1, H, 1] radians (the first row counts as 0), noise [1, H, N] normal."""

    phase: Tensor
    noise: Tensor


class HarmonicSource(nn.Module):
    """Sines at the harmonics of F0 where it is voiced, noise where it is not, merged into one signal."""

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self._config = config
        self.l_linear = nn.Linear(config.harmonics, 1)

    def forward(self, f0: Tensor, excitation: Excitation, start_cycles: float = 0.0) -> Tensor:
        """Make the source.

        Args:
            f0: [1, M] Hz, one value a mel frame.
            excitation: with N = M * hop samples.
            start_cycles: cycles of the fundamental before the first sample.

        Returns:
            [1, 1, N] within -1..1.
        """
        config = self._config
        order = torch.arange(1, config.harmonics + 1, dtype=f0.dtype, device=f0.device)[:, None]  # [H, 1]
        phase = excitation.phase[0].to(f0.device, copy=True)
        phase[0] = 0.0
        cycles = self.cycles(f0, start_cycles).float()  # [N] within 0..1
        angle = torch.addcmul(phase, cycles * (2 * math.pi), order)  # [H, N]
        voiced = (f0 > config.voiced_threshold_hz).float().repeat_interleave(config.hop_samples, dim=1)  # [1, N]
        loudness = torch.lerp(
            torch.full_like(voiced, config.sine_amplitude / 3), torch.full_like(voiced, config.noise_amplitude), voiced
        )
        waves = angle.sin_().mul_(voiced * config.sine_amplitude).addcmul_(excitation.noise[0].to(f0.device), loudness)
        return torch.tanh(self.l_linear.weight @ waves + self.l_linear.bias)[None]

    def cycles(self, f0: Tensor, start_cycles: float) -> Tensor:
        """Cycles of the fundamental at each sample, whole cycles taken off; [1, M] -> [N] float64."""
        hop = self._config.hop_samples
        step = f0[0].double() / self._config.sample_rate_hz  # [M] cycles a sample
        before = start_cycles + hop * (step.cumsum(0) - step)
        ramp = torch.arange(1, hop + 1, dtype=torch.float64, device=f0.device)
        return torch.remainder(before[:, None] + step[:, None] * ramp, 1.0).flatten()

    def cycles_after(self, f0: Tensor, start_cycles: float) -> float:
        """Cycles of the fundamental after these frames, whole cycles taken off."""
        total = f0.double().sum().item() * self._config.hop_samples / self._config.sample_rate_hz
        return math.fmod(start_cycles + total, 1.0)


def short_spectrum(source: Tensor, analysis: Tensor, hop: int) -> Tensor:
    """Short-time spectrum of the source, centred frames, as channels: real parts, then imaginary parts.

    Args:
        source: [1, 1, N].
        analysis: [fft_size, fft_size + 2] from `analysis_matrix`.
        hop: samples from one frame to the next.

    Returns:
        [1, fft_size + 2, 1, N / hop + 1] in channels-last memory.
    """
    fft_size = len(analysis)
    padded = F.pad(source, (fft_size // 2, fft_size // 2), mode="reflect")[0, 0]
    frames = padded.unfold(0, fft_size, hop)  # [L, fft]
    rows = frames @ analysis  # [L, fft + 2]
    return rows.t()[None, :, None, :]


def analysis_matrix(fft_size: int, device: torch.device) -> Tensor:
    """Hann window and real Fourier transform as one matrix; [fft, fft + 2]."""
    window = torch.hann_window(fft_size, dtype=torch.float64, device=device)
    spectrum = torch.fft.rfft(torch.diag(window), dim=1)  # row n: spectrum of a windowed impulse at n
    return torch.cat([spectrum.real, spectrum.imag], dim=1).float()


def synthesis_matrix(fft_size: int, device: torch.device) -> Tensor:
    """Inverse real Fourier transform and Hann window as one matrix; [fft + 2, fft]."""
    bins = fft_size // 2 + 1
    window = torch.hann_window(fft_size, dtype=torch.float64, device=device)
    unit = torch.eye(bins, dtype=torch.float64, device=device)
    real = torch.fft.irfft(torch.complex(unit, torch.zeros_like(unit)), n=fft_size, dim=1)
    imaginary = torch.fft.irfft(torch.complex(torch.zeros_like(unit), unit), n=fft_size, dim=1)
    return (torch.cat([real, imaginary]) * window).float()
