"""What a wave is measured by: spectra at five resolutions, and the vocoder's own mel, in batches.

Decides: resolutions and how their parts are weighted. Refuses to know: what made the wave.
"""

from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from services.shared.nn.features import (
    PROMPT_MEL_HOP_SAMPLES,
    PROMPT_MEL_RATE_HZ,
    PROMPT_MELS,
    slaney_mel_filters,
)

RESOLUTIONS: Final = (128, 256, 512, 1024, 2048)
"""Transform lengths; the hop is a quarter."""
_FLOOR: Final = 1e-4
_MEL_FFT: Final = 1024
_MEL_HIGH_HZ: Final = 8000.0


def magnitudes(waves: Tensor, size: int) -> Tensor:
    """[B, N] -> [B, size / 2 + 1, T] magnitudes, not below 1e-4."""
    spectrum = torch.stft(waves, size, size // 4, window=_window(size), return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=_FLOOR**2).sqrt()


def spectral_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the resolutions of spectral convergence and of the distance of log magnitudes; both [B, N]."""
    total = found.new_zeros(())
    for size in RESOLUTIONS:
        made, real = magnitudes(found, size), magnitudes(wanted, size)
        convergence = (real - made).norm(dim=(1, 2)) / real.norm(dim=(1, 2)).clamp(min=_FLOOR)
        total = total + convergence.mean() + (real.log() - made.log()).abs().mean()
    return total / len(RESOLUTIONS)


def log_mel(waves: Tensor) -> Tensor:
    """[B, N] -> [B, 80, N / 256]: `mel_spectrogram_22k` of a batch."""
    margin = (_MEL_FFT - PROMPT_MEL_HOP_SAMPLES) // 2
    padded = F.pad(waves[:, None], (margin, margin), mode="reflect")[:, 0]
    spectrum = torch.stft(
        padded, _MEL_FFT, PROMPT_MEL_HOP_SAMPLES, window=_window(_MEL_FFT), center=False, return_complex=True
    )
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    filters = slaney_mel_filters(PROMPT_MEL_RATE_HZ, _MEL_FFT, PROMPT_MELS, high_hz=_MEL_HIGH_HZ)
    return (filters @ magnitude).clamp(min=1e-5).log()


@cache
def _window(size: int) -> Tensor:
    return torch.hann_window(size)
