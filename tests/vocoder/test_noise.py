"""Noise by seed and frame: the same frame, the same numbers, wherever a window begins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidOptionError
from services.vocoder.noise import mel_noise, prompt_noise, source_noise, source_phase

pytestmark = pytest.mark.unit


@settings(max_examples=30)
@given(start=st.integers(0, 150), length=st.integers(0, 100))
def test_a_window_hears_what_the_whole_hears(start: int, length: int) -> None:
    whole = mel_noise(5, 80, start=0, end=256)
    assert np.array_equal(mel_noise(5, 80, start=start, end=start + length), whole[:, :, start : start + length])


def test_a_window_of_source_noise_hears_what_the_whole_hears() -> None:
    whole = source_noise(5, 9, 256, start=0, end=70)
    assert whole.shape == (1, 9, 70 * 256)
    assert np.array_equal(source_noise(5, 9, 256, start=33, end=65), whole[:, :, 33 * 256 : 65 * 256])


def test_noise_is_normal_and_differs_by_seed_frame_and_use() -> None:
    noise = mel_noise(1, 80, start=0, end=1000)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert not np.array_equal(noise, mel_noise(2, 80, start=0, end=1000))
    assert not np.array_equal(noise[:, :, :32], noise[:, :, 32:64])
    assert not np.array_equal(noise[:, :, :50], prompt_noise(1, 80, 50))


def test_phases_spread_over_the_circle() -> None:
    phases = np.stack([source_phase(seed, 9) for seed in range(100)])
    assert phases.shape == (100, 1, 9, 1)
    assert -np.pi <= phases.min() < -3 < 3 < phases.max() <= np.pi


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_outside_its_range_is_refused(seed: int) -> None:
    with pytest.raises(InvalidOptionError, match="seed"):
        mel_noise(seed, 80, start=0, end=1)


def test_the_largest_seed_is_taken() -> None:
    assert np.isfinite(mel_noise(2**63 - 1, 80, start=0, end=1)).all()
