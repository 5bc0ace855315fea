"""Resampling: recorded numbers, the defining filter, and streaming in any pieces."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.shared.audio.files import read_audio
from services.shared.audio.resample import Resampler, _make_filter, resample
from services.shared.errors import InvalidOptionError
from tests.conftest import golden_file, report

RATES_HZ = [(48_000, 16_000), (44_100, 16_000), (8000, 16_000), (16_000, 22_050), (11_025, 16_000), (7919, 16_000)]


def direct(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    """The filter by its definition, output by output, in float64."""
    cutoff_hz = 0.99 * min(from_hz, to_hz)
    count = math.ceil(len(samples) * to_hz / from_hz)
    offsets_s = np.arange(len(samples)) / from_hz - (np.arange(count) / to_hz)[:, None]
    phase = np.clip(offsets_s * cutoff_hz, -6.0, 6.0)
    kernel = np.sinc(phase) * np.cos(phase * np.pi / 12) ** 2 * (cutoff_hz / from_hz)
    return np.asarray(kernel @ samples.astype(np.float64))


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["sil_voice_24k", "sil_voice_44k1", "stereo_48k", "voice_22k05"])
def test_resampling_equals_the_recorded_samples(clip: str) -> None:
    audio = read_audio(golden_file(f"wavs/{clip}.wav"))
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["resampled16k"][0]
    report(f"{clip} at 16 kHz", resample(audio.samples, audio.sample_rate_hz, 16_000), recorded, max_abs=1e-5)


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["burst_1p00", "sweep_0p30", "stereo_48k"])
def test_resampling_to_the_vocoders_rate_equals_the_recorded_samples(clip: str) -> None:
    audio = read_audio(golden_file(f"wavs/{clip}.wav"))
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["resampled22k_head"][0]
    actual = resample(audio.samples, audio.sample_rate_hz, 22_050)[: len(recorded)]
    report(f"{clip} at 22.05 kHz", actual, recorded, max_abs=1e-5)


@pytest.mark.unit
@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
@pytest.mark.parametrize("length", [1, 2, 999])
def test_resampling_is_the_windowed_sinc(from_hz: int, to_hz: int, length: int) -> None:
    samples = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    actual = resample(samples, from_hz, to_hz)
    expected = direct(samples, from_hz, to_hz)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() < 2e-4  # torchaudio's own phases are rounded to float32


@pytest.mark.unit
@settings(max_examples=40)
@given(
    rates=st.sampled_from(RATES_HZ),
    length=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_pushes_of_any_sizes_give_the_one_shot_samples(rates: tuple[int, int], length: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    resampler = Resampler(*rates)
    state = resampler.initial_state()
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    out = []
    for index in range(len(edges) - 1):
        piece = samples[edges[index] : edges[index + 1]]
        got, state = resampler.push(piece, state, final=index == len(edges) - 2)
        out.append(got)
    assert np.array_equal(np.concatenate(out), resample(samples, *rates))


@pytest.mark.unit
def test_a_streamed_state_holds_only_what_the_filter_still_needs() -> None:
    resampler = Resampler(48_000, 16_000)
    state = resampler.initial_state()
    produced = 0
    for _ in range(50):
        out, state = resampler.push(np.ones(960, np.float32), state, final=False)
        produced += len(out)
        assert len(state.tail) <= 48
    assert produced == pytest.approx(16_000, abs=8)


@pytest.mark.unit
def test_pushing_leaves_the_old_state_usable() -> None:
    resampler = Resampler(24_000, 16_000)
    samples = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    _, state = resampler.push(samples, resampler.initial_state(), final=False)
    first, _ = resampler.push(samples, state, final=False)
    second, _ = resampler.push(samples, state, final=False)
    assert np.array_equal(first, second)


@pytest.mark.unit
def test_the_blocks_that_bound_memory_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    at_once = resample(samples, 16_000, 22_050)
    monkeypatch.setattr("services.shared.audio.resample._BLOCK_SAMPLES", 999)
    monkeypatch.setattr("services.shared.audio.resample._make_filter", _make_filter.__wrapped__)
    assert np.array_equal(resample(samples, 16_000, 22_050), at_once)


@pytest.mark.unit
def test_equal_rates_change_nothing_and_rates_of_nothing_are_refused() -> None:
    samples = np.ones(3, np.float32)
    assert resample(samples, 16_000, 16_000) is samples
    for rates in ((0, 16_000), (16_000, -1), (0, 0)):
        with pytest.raises(InvalidOptionError):
            resample(samples, *rates)


@pytest.mark.unit
@settings(max_examples=40)
@given(
    rates=st.sampled_from(RATES_HZ),
    silences=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
)
def test_silence_that_is_skipped_is_silence_that_was_pushed(rates: tuple[int, int], silences: list[int]) -> None:
    resampler = Resampler(*rates)
    skipped = pushed = resampler.initial_state()
    for index, silence in enumerate(silences):
        samples = np.random.default_rng(index).standard_normal(70).astype(np.float32)
        first, skipped = resampler.push(samples, skipped, final=False)
        second, pushed = resampler.push(samples, pushed, final=False)
        assert np.array_equal(first, second)
        first, skipped = resampler.skip_silence(silence, skipped)
        second, pushed = resampler.push(np.zeros(silence, np.float32), pushed, final=False)
        assert np.array_equal(first, second)
        assert skipped.produced == pushed.produced
    end = np.zeros(0, np.float32)
    assert np.array_equal(resampler.push(end, skipped, final=True)[0], resampler.push(end, pushed, final=True)[0])
