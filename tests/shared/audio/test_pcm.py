"""What may enter as audio, and the release's normalisation and trimming."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.shared.audio.files import read_audio
from services.shared.audio.pcm import as_mono, normalize_energy, trim_silence
from services.shared.audio.resample import resample
from services.shared.errors import AudioError, EmptyAudioError, NonFiniteAudioError
from tests.conftest import golden_file, report

GOLDEN_CLIPS = [
    "sweep_0p30",
    "burst_1p00",
    "voice_3p37",
    "voice_22k05",
    "sil_voice_24k",
    "sil_voice_44k1",
    "stereo_48k",
    "silence_16k",
]


@pytest.mark.unit
def test_channels_are_averaged_whether_numpy_or_torch() -> None:
    stereo = np.array([[1.0, 0.0, -1.0], [0.0, 0.5, -1.0]], np.float32)
    expected = [0.5, 0.25, -1.0]
    assert as_mono(stereo).tolist() == expected
    assert as_mono(torch.from_numpy(stereo)).tolist() == expected
    assert as_mono(stereo.astype(np.float64)).dtype == np.float32


@pytest.mark.unit
def test_integer_pcm_is_scaled_by_its_full_scale() -> None:
    assert as_mono(np.array([-32768, 16384], np.int16)).tolist() == [-1.0, 0.5]
    assert as_mono(np.array([-(2**31), 2**30], np.int32)).tolist() == [-1.0, 0.5]


@pytest.mark.unit
def test_the_callers_samples_are_copied() -> None:
    original = np.zeros(4, np.float32)
    as_mono(original)[:] = 1.0
    assert not original.any()


@pytest.mark.unit
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 5)])
def test_no_samples_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EmptyAudioError):
        as_mono(np.zeros(shape, np.float32))


@pytest.mark.unit
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteAudioError):
        as_mono(np.array([0.0, bad, 0.0], np.float32))


@pytest.mark.unit
@pytest.mark.parametrize(
    "samples", [np.zeros((1, 2, 3), np.float32), np.array(0.5), np.array([1, 2], np.uint8), np.array([1j])]
)
def test_what_is_no_pcm_is_refused(samples: np.ndarray) -> None:  # type: ignore[type-arg]  # several types on purpose
    with pytest.raises(AudioError):
        as_mono(samples)


@pytest.mark.unit
def test_normalisation_reaches_its_peak_but_does_not_blow_up_noise() -> None:
    assert np.abs(normalize_energy(np.array([0.25, -0.5], np.float32))).max() == pytest.approx(0.999)
    assert normalize_energy(np.full(3, 1e-4, np.float32)).max() == pytest.approx(1e-4 / 0.01 * 0.999)


@pytest.mark.unit
@given(
    quiet_before=st.integers(0, 8000),
    loud=st.integers(1, 8000),
    quiet_after=st.integers(0, 8000),
)
def test_trimming_keeps_all_loud_samples_and_gives_the_stated_length(
    quiet_before: int, loud: int, quiet_after: int
) -> None:
    samples = np.concatenate([np.zeros(quiet_before), np.full(loud, 0.5), np.zeros(quiet_after)]).astype(np.float32)
    trimmed = trim_silence(samples)
    assert (len(trimmed) - 4320) % 240 == 0
    assert (trimmed != 0).sum() == loud
    if quiet_before >= 1000:
        assert not trimmed[:400].any()


@pytest.mark.unit
def test_silence_is_kept_whole_by_trimming() -> None:
    trimmed = trim_silence(np.zeros(8000, np.float32))
    assert len(trimmed) == 34 * 240 + 4320
    assert not trimmed.any()


@pytest.mark.golden
@pytest.mark.parametrize("clip", GOLDEN_CLIPS)
def test_normalised_and_trimmed_samples_equal_the_recorded_ones(clip: str) -> None:
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))
    facts = json.loads(golden_file("preproc/summary.json").read_text())[f"{clip}.wav"]
    audio = read_audio(golden_file(f"wavs/{clip}.wav"))
    normalized = normalize_energy(resample(audio.samples, audio.sample_rate_hz, 16_000))
    head = recorded["energy_norm"][0]
    report(f"{clip} normalised", normalized[: len(head)], head, max_abs=1e-5)
    trimmed = trim_silence(normalized)
    assert len(trimmed) == facts["trimmed_len"]
    report(f"{clip} trimmed, head", trimmed[:3000], recorded["trimmed_head"], max_abs=1e-5)
    report(f"{clip} trimmed, tail", trimmed[-3000:], recorded["trimmed_tail"], max_abs=1e-5)


@pytest.mark.unit
def test_the_recorded_trim_covers_cut_and_padded_starts() -> None:
    facts = json.loads(golden_file("preproc/summary.json").read_text())
    starts = sorted(facts[f"{clip}.wav"]["trim_index"][0] for clip in GOLDEN_CLIPS)
    assert starts[0] == 0
    assert any(before < 800 < after for before, after in pairwise(starts))
