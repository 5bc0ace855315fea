"""Speed keeps pitch and length; volume never wraps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.shared.audio.effects import SpeedChanger, change_speed, change_volume
from services.shared.errors import EmptyAudioError, InvalidOptionError, NonFiniteAudioError

pytestmark = pytest.mark.unit

RATE_HZ = 22050
Samples = NDArray[np.float32]


def vowel(f0_hz: float, seconds: float) -> Samples:
    """Harmonics under two formants, with a slow vibrato of 1 %."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * (f0_hz * time + 0.01 * f0_hz / (2 * np.pi * 5) * np.sin(2 * np.pi * 5 * time))
    signal = np.zeros_like(time)
    for harmonic in range(1, int(4000 / f0_hz)):
        frequency = harmonic * f0_hz
        level = 1 / (1 + ((frequency - 700) / 150) ** 2) + 0.5 / (1 + ((frequency - 1200) / 200) ** 2) + 0.01
        signal += level * np.sin(harmonic * phase)
    scaled: Samples = (0.5 * signal / np.abs(signal).max()).astype(np.float32)
    return scaled


def f0_of(samples: Samples) -> float:
    """Pitch by autocorrelation in the middle, with a parabola through the peak."""
    middle = samples[len(samples) // 2 - 2048 : len(samples) // 2 + 2048].astype(np.float64)
    likeness = np.correlate(middle, middle, mode="full")[len(middle) - 1 :]
    likeness /= np.arange(len(middle), 0, -1)
    low, high = RATE_HZ // 400, RATE_HZ // 70
    lag = int(np.argmax(likeness[low:high])) + low
    left, centre, right = likeness[lag - 1 : lag + 2]
    return float(RATE_HZ / (lag + 0.5 * (left - right) / (left - 2 * centre + right)))


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.25, 1.7, 2.0, 3.0])
@pytest.mark.parametrize("f0_hz", [110.0, 235.0])
def test_speed_changes_the_length_and_keeps_the_pitch(ratio: float, f0_hz: float) -> None:
    samples = vowel(f0_hz, 1.2)
    changed = change_speed(samples, RATE_HZ, ratio)
    assert len(changed) == round(len(samples) / ratio)
    assert abs(f0_of(changed) / f0_of(samples) - 1) < 0.015
    assert changed.dtype == np.float32


@pytest.mark.parametrize("ratio", [0.6, 0.9, 1.1, 1.5])
def test_speed_makes_no_clicks_and_keeps_the_loudness(ratio: float) -> None:
    samples = vowel(150.0, 1.0)
    changed = change_speed(samples, RATE_HZ, ratio)
    assert np.abs(np.diff(changed)).max() < 1.3 * np.abs(np.diff(samples)).max()
    edge = RATE_HZ // 20
    loudness = np.sqrt(np.mean(changed[edge:-edge] ** 2)) / np.sqrt(np.mean(samples[edge:-edge] ** 2))
    assert 0.93 < loudness < 1.05


def test_speed_keeps_the_order_of_events() -> None:
    low, high = vowel(110.0, 0.5), vowel(235.0, 0.5)
    changed = change_speed(np.concatenate([low, high]), RATE_HZ, 1.25)
    assert abs(f0_of(changed[: len(changed) // 2]) - 110) < 4
    assert abs(f0_of(changed[len(changed) // 2 :]) - 235) < 6


def test_speed_of_one_changes_nothing() -> None:
    samples = vowel(110.0, 0.1)
    changed = change_speed(samples, RATE_HZ, 1.0)
    assert np.array_equal(changed, samples)
    assert changed is not samples


@pytest.mark.parametrize("count", [1, 7, 330, 661, 700])
@pytest.mark.parametrize("ratio", [0.25, 0.7, 4.0])
def test_speed_takes_very_short_audio(count: int, ratio: float) -> None:
    changed = change_speed(np.full(count, 0.5, np.float32), RATE_HZ, ratio)
    assert len(changed) == round(count / ratio)
    assert np.isfinite(changed).all()
    assert np.abs(changed).max(initial=0) <= 0.5 + 1e-6


def test_speed_of_silence_is_silence() -> None:
    assert not change_speed(np.zeros(5000, np.float32), RATE_HZ, 1.3).any()


@settings(max_examples=30)
@given(
    ratio=st.sampled_from([0.25, 0.7, 0.93, 1.0, 1.3, 2.0, 4.0]),
    length=st.integers(0, 9000),
    cuts=st.lists(st.integers(0, 9000), max_size=8),
)
def test_speed_of_a_stream_in_any_pieces_is_that_of_the_whole(ratio: float, length: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    whole = SpeedChanger(RATE_HZ, ratio).push(samples, final=True)
    assert len(whole) == round(length / ratio)
    changer = SpeedChanger(RATE_HZ, ratio)
    pieces = np.split(samples, sorted(min(cut, length) for cut in cuts))
    changed = [changer.push(piece, final=index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    assert np.array_equal(np.concatenate(changed), whole)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_speed_of_a_stream_holds_back_little(ratio: float) -> None:
    changer = SpeedChanger(RATE_HZ, ratio)
    given_s = sum(len(changer.push(vowel(110.0, 0.1), final=False)) for _ in range(20)) / RATE_HZ
    assert 2.0 / ratio - 0.08 / ratio - 0.03 <= given_s <= 2.0 / ratio


@pytest.mark.parametrize("ratio", [0.0, 0.24, 4.1, -1.0, float("nan"), float("inf")])
def test_a_speed_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(InvalidOptionError, match="speed"):
        change_speed(np.zeros(100, np.float32), RATE_HZ, ratio)


def test_bad_samples_are_refused() -> None:
    with pytest.raises(EmptyAudioError):
        change_speed(np.zeros(0, np.float32), RATE_HZ, 1.5)
    with pytest.raises(NonFiniteAudioError):
        change_volume(np.array([0.0, np.nan], np.float32), 1.5)


def test_volume_up_to_one_is_a_plain_product() -> None:
    samples = vowel(110.0, 0.1) * 2
    assert np.allclose(change_volume(samples, 0.3), samples * 0.3)
    assert np.array_equal(change_volume(samples, 1.0), samples)
    assert not change_volume(samples, 0.0).any()


def test_louder_is_rounded_off_and_never_wraps() -> None:
    ramp = np.linspace(-1, 1, 2001, dtype=np.float32)
    louder = change_volume(ramp, 2.0)
    assert np.abs(louder).max() <= 1.0
    assert (np.diff(louder) >= 0).all()
    quiet = np.abs(ramp) <= 0.45
    assert np.allclose(louder[quiet], 2 * ramp[quiet])
    steps = np.diff(louder) / np.diff(ramp)
    assert steps.max() < 2.01, "rounding off must not be steeper than the gain"
    assert np.abs(np.diff(steps)).max() < 0.05, "and has no corner"


@pytest.mark.parametrize("ratio", [-0.1, float("nan"), float("inf")])
def test_a_volume_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(InvalidOptionError, match="volume"):
        change_volume(np.zeros(10, np.float32), ratio)
