"""Spectral features against recorded ones, and what each must hold by its definition."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from services.shared.audio.files import read_audio
from services.shared.audio.pcm import normalize_energy
from services.shared.audio.resample import resample
from services.shared.nn.features import kaldi_fbank, mel_spectrogram_22k, slaney_mel_filters, whisper_log_mel
from tests.conftest import golden_file, report

CLIPS = [
    "sweep_0p30",
    "burst_1p00",
    "voice_3p37",
    "voice_22k05",
    "sil_voice_24k",
    "sil_voice_44k1",
    "stereo_48k",
    "silence_16k",
]


def clip_at(clip: str, rate_hz: int) -> Tensor:
    audio = read_audio(golden_file(f"wavs/{clip}.wav"))
    return torch.from_numpy(resample(audio.samples, audio.sample_rate_hz, rate_hz))


def facts(clip: str) -> dict[str, int]:
    summary: dict[str, dict[str, int]] = json.loads(golden_file("preproc/summary.json").read_text())
    return summary[f"{clip}.wav"]


@pytest.mark.golden
@pytest.mark.parametrize("clip", CLIPS)
def test_whisper_log_mel_equals_the_recorded_one(clip: str) -> None:
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["whisper_mel0"]
    samples = torch.from_numpy(normalize_energy(clip_at(clip, 16_000).numpy()))
    actual = whisper_log_mel(samples)[:, :: facts(clip)["whisper_stride"]]
    report(f"{clip} whisper log-mel", actual, recorded, max_abs=1e-4)


@pytest.mark.golden
@pytest.mark.parametrize("clip", CLIPS)
def test_prompt_mel_equals_the_recorded_one(clip: str) -> None:
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["speech_feat"]
    actual = mel_spectrogram_22k(clip_at(clip, 22_050))[:, :: facts(clip)["speech_feat_stride"]].numpy()
    # Bins near the floor of ln(1e-5) = -11.5 hold the rounding of the resampler, the recording's and ours.
    audible = recorded > -9.0
    report(f"{clip} prompt mel", actual[audible], recorded[audible], max_abs=3e-4) if audible.any() else None
    report(f"{clip} prompt mel with the floor", actual, recorded, max_abs=1e-2)


@pytest.mark.golden
@pytest.mark.parametrize("clip", CLIPS)
def test_speaker_filter_bank_equals_the_recorded_one(clip: str) -> None:
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["campplus_fbank"]
    features = kaldi_fbank(clip_at(clip, 16_000), window="povey")
    features = (features - features.mean(dim=0))[:: facts(clip)["campplus_fbank_stride"]]
    report(f"{clip} speaker filter bank", features, recorded, max_abs=2e-2)
    report(f"{clip} speaker filter bank, mean", (features - torch.from_numpy(recorded)).abs().mean(), 0.0, max_abs=1e-3)


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["sweep_0p30", "burst_1p00", "voice_3p37"])
def test_speaker_filter_bank_equals_the_networks_recorded_input(clip: str) -> None:
    recorded = np.load(golden_file("campplus/io.npz"))[f"{clip}_fbank"]
    features = kaldi_fbank(clip_at(clip, 16_000), window="povey")
    report(f"{clip} campplus input", features - features.mean(dim=0), recorded, max_abs=2e-2)


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["sweep_0p30", "burst_1p00"])
def test_paraformer_filter_bank_equals_the_recorded_one(clip: str) -> None:
    recorded = np.load(golden_file(f"lingtok/{clip}.npz"))["fbank_per_chunk"]
    features = kaldi_fbank(clip_at(clip, 16_000) * 32768, window="hamming")[: len(recorded)]
    report(f"{clip} paraformer filter bank", features, recorded, max_abs=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_filter_bank_frames_never_pass_the_end(samples: int, frames: int) -> None:
    features = kaldi_fbank(torch.ones(samples), window="povey")
    assert features.shape == (frames, 80)
    assert features.isfinite().all()


@pytest.mark.unit
def test_a_filter_bank_frame_depends_on_its_own_samples_only() -> None:
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    whole = kaldi_fbank(samples, window="hamming")
    part = kaldi_fbank(samples[320 : 320 + 720], window="hamming")
    assert torch.allclose(whole[2:5], part, atol=1e-5)


@pytest.mark.unit
def test_a_tone_lands_in_the_mel_bin_of_its_frequency() -> None:
    for hz in (200.0, 1000.0, 5000.0):
        tone = torch.sin(torch.arange(16_000) * (2 * torch.pi * hz / 16_000))
        mel = 1127 * np.log(1 + hz / 700)
        low, high = (1127 * np.log(1 + edge / 700) for edge in (20.0, 8000.0))
        expected = (mel - low) / (high - low) * 81 - 1
        loudest = kaldi_fbank(tone, window="povey").mean(dim=0).argmax().item()
        assert abs(loudest - expected) <= 1


@pytest.mark.unit
@pytest.mark.parametrize(("rate_hz", "n_fft", "n_mels", "high_hz"), [(16_000, 400, 128, None), (22_050, 1024, 80, 8e3)])
def test_slaney_filters_have_equal_area_and_end_where_they_should(
    rate_hz: int, n_fft: int, n_mels: int, high_hz: float | None
) -> None:
    filters = slaney_mel_filters(rate_hz, n_fft, n_mels, high_hz=high_hz)
    assert filters.shape == (n_mels, n_fft // 2 + 1)
    assert (filters >= 0).all()
    bins_hz = torch.linspace(0, rate_hz / 2, n_fft // 2 + 1)
    assert not filters[:, bins_hz > (high_hz or rate_hz / 2)].any()
    wide = filters[-n_mels // 4 :].double()  # narrow filters hold too few bins for a sum to be an area
    assert (wide.sum(dim=1) * rate_hz / n_fft - 1).abs().max() < 0.05
    centres = (filters * bins_hz).sum(dim=1) / filters.sum(dim=1)
    assert (centres.diff() > -1e-3).all()  # the lowest filters share their only bin


@pytest.mark.unit
def test_mels_of_silence_are_their_floors() -> None:
    assert torch.allclose(whisper_log_mel(torch.zeros(1600)), torch.tensor(-1.5))
    # the vocoder's magnitude has a floor of its own, which its widest filters lift above the clamp
    assert mel_spectrogram_22k(torch.zeros(2560)).exp().max() < 1e-4
    assert torch.allclose(kaldi_fbank(torch.zeros(800), window="povey"), torch.tensor(1.1920929e-07).log())


@pytest.mark.unit
def test_frame_counts_of_both_mels_are_whole_hops() -> None:
    assert whisper_log_mel(torch.zeros(1759)).shape == (128, 10)
    assert mel_spectrogram_22k(torch.zeros(2815)).shape == (1, 10, 80)
