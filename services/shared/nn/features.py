"""Spectral features of the networks: Kaldi filter banks, Whisper's log-mel, the mel of the vocoder's prompt.

All are plain functions of the samples they are given, batched over frames, with no state and no normalisation but the
one that belongs to the feature; streaming and CMVN are the business of who calls them.
Sources: kaldi feature-fbank as in torchaudio.compliance.kaldi, openai-whisper's log_mel_spectrogram, the mel of
Matcha-TTS as CosyVoice uses it, librosa's slaney filters.
"""

import math
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FBANK_RATE_HZ: Final = 16_000
FBANK_FRAME_SAMPLES: Final = 400
FBANK_HOP_SAMPLES: Final = 160
FBANK_MELS: Final = 80
"""25 ms every 10 ms at 16 kHz, 80 mel bins from 20 Hz to 8 kHz."""
_FBANK_FFT: Final = 512
_FBANK_LOW_HZ: Final = 20.0
_FBANK_EPSILON: Final = 1.1920928955078125e-07
_PREEMPHASIS: Final = 0.97

WHISPER_RATE_HZ: Final = 16_000
WHISPER_HOP_SAMPLES: Final = 160
WHISPER_MELS: Final = 128
_WHISPER_FFT: Final = 400

PROMPT_MEL_RATE_HZ: Final = 22_050
PROMPT_MEL_HOP_SAMPLES: Final = 256
PROMPT_MELS: Final = 80
_PROMPT_FFT: Final = 1024
_PROMPT_HIGH_HZ: Final = 8000.0

FbankWindow = Literal["hamming", "povey"]

Array = NDArray[np.float64]


def kaldi_fbank(samples_16k: Tensor, *, window: FbankWindow) -> Tensor:
    """Kaldi log mel filter bank energies, without dither and without an energy column.

    Each frame loses its mean, is pre-emphasised by 0.97 and windowed; frames that would pass the end are not made.

    Args:
        samples_16k: [N] float32 at 16 kHz, in the scale the network was trained on: Paraformer takes samples * 32768,
            the speaker network samples as they are.
        window: "hamming" for Paraformer, "povey" (Kaldi's default) for the speaker network.

    Returns:
        [T, 80] natural logarithms, T = (N - 400) // 160 + 1, or 0 below 400 samples.
    """
    if samples_16k.shape[0] < FBANK_FRAME_SAMPLES:
        return samples_16k.new_zeros(0, FBANK_MELS)
    frames = samples_16k.unfold(0, FBANK_FRAME_SAMPLES, FBANK_HOP_SAMPLES)  # [T, 400]
    frames = frames - frames.mean(dim=1, keepdim=True)
    previous = F.pad(frames.unsqueeze(0), (1, 0), mode="replicate").squeeze(0)[:, :-1]
    shaped = (frames - _PREEMPHASIS * previous) * _fbank_window(window).to(frames)
    # float64: in float32 the rounding of the strong bins shows in the weakest ones, whose logarithms are features too
    power = torch.fft.rfft(shaped.double(), n=_FBANK_FFT).abs().square().to(frames)  # [T, 257]
    energies: Tensor = power @ _kaldi_mel_filters().to(frames).T
    return energies.clamp(min=_FBANK_EPSILON).log()


def whisper_log_mel(samples_16k: Tensor) -> Tensor:
    """Whisper's log-mel spectrogram of one piece, not padded to 30 s.

    Args:
        samples_16k: [N] float32 in [-1, 1], more than 200 samples (the reflected margin) and at least one hop.

    Returns:
        [128, N // 160], floored 8 decades below the piece's own maximum.
    """
    window = _hann(_WHISPER_FFT).to(samples_16k)
    spectrum = torch.stft(samples_16k, _WHISPER_FFT, WHISPER_HOP_SAMPLES, window=window, return_complex=True)
    power = spectrum[:, :-1].abs().square()
    filters = slaney_mel_filters(WHISPER_RATE_HZ, _WHISPER_FFT, WHISPER_MELS).to(samples_16k)
    log_mel = (filters @ power).clamp(min=1e-10).log10()
    log_mel = torch.maximum(log_mel, log_mel.max() - 8.0)
    return (log_mel + 4.0) / 4.0


def mel_spectrogram_22k(samples_22k: Tensor) -> Tensor:
    """The mel spectrogram that the vocoder's prompt is made of.

    Args:
        samples_22k: [N] float32 at 22.05 kHz, N > 384 (the reflected margin).

    Returns:
        [1, T, 80] natural logarithms, T = N // 256.
    """
    margin = (_PROMPT_FFT - PROMPT_MEL_HOP_SAMPLES) // 2
    padded = F.pad(samples_22k.unsqueeze(0), (margin, margin), mode="reflect").squeeze(0)
    window = _hann(_PROMPT_FFT).to(samples_22k)
    spectrum = torch.stft(
        padded, _PROMPT_FFT, PROMPT_MEL_HOP_SAMPLES, window=window, center=False, return_complex=True
    )  # [513, T]
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    filters = slaney_mel_filters(PROMPT_MEL_RATE_HZ, _PROMPT_FFT, PROMPT_MELS, high_hz=_PROMPT_HIGH_HZ)
    return (filters.to(samples_22k) @ magnitude).clamp(min=1e-5).log().T.unsqueeze(0)


@lru_cache(maxsize=8)
def slaney_mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, *, high_hz: float | None = None) -> Tensor:
    """Triangular mel filters of equal area on Slaney's scale (linear to 1 kHz, logarithmic above), from 0 Hz.

    Args:
        sample_rate_hz: rate of the samples.
        n_fft: transform length.
        n_mels: number of filters.
        high_hz: upper end; the Nyquist frequency when left out.

    Returns:
        [n_mels, n_fft // 2 + 1] float32 on the CPU; shared between calls, not to be written to.

    Source: librosa.filters.mel with its defaults.
    """
    high_hz = sample_rate_hz / 2 if high_hz is None else high_hz
    corner_hz, mels_below, octave_mels = 1000.0, 15.0, 27.0 / math.log(6.4)
    top = mels_below * high_hz / corner_hz if high_hz < corner_hz else mels_below
    top += octave_mels * math.log(max(high_hz, corner_hz) / corner_hz)
    mel = np.linspace(0.0, top, n_mels + 2)
    edges_hz = np.where(
        mel < mels_below, mel * (corner_hz / mels_below), corner_hz * np.exp((mel - mels_below) / octave_mels)
    )
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1)
    filters = _triangles(bins_hz, edges_hz) * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return torch.from_numpy(filters.astype(np.float32))


def _triangles(bins: Array, edges: Array) -> Array:
    """Filters [M, F] that rise from edges[m] to 1 at edges[m + 1] and fall to edges[m + 2]."""
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters: Array = np.maximum(0.0, np.minimum(rising, falling))
    return filters


@lru_cache(maxsize=1)
def _kaldi_mel_filters() -> Tensor:
    """[80, 257] triangles in the mel domain of 1127 ln(1 + f / 700); the Nyquist bin belongs to none.

    In float32 throughout, like the reference: its rounding is visible in the features.
    """
    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (_FBANK_LOW_HZ, FBANK_RATE_HZ / 2))
    step = (high - low) / (FBANK_MELS + 1)
    bins = 1127.0 * (1.0 + torch.arange(_FBANK_FFT // 2) * (FBANK_RATE_HZ / _FBANK_FFT) / 700.0).log()
    number = torch.arange(FBANK_MELS)[:, None]
    left, centre, right = (low + (number + n) * step for n in range(3))
    filters = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0.0)
    return F.pad(filters, (0, 1))


@lru_cache(maxsize=2)
def _fbank_window(name: FbankWindow) -> Tensor:
    """[400] symmetric window."""
    if name == "hamming":
        return torch.hamming_window(FBANK_FRAME_SAMPLES, periodic=False)
    return torch.hann_window(FBANK_FRAME_SAMPLES, periodic=False).pow(0.85)


@lru_cache(maxsize=4)
def _hann(length: int) -> Tensor:
    return torch.hann_window(length)
