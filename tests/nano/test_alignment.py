"""Silence is moved onto the sound; no phone is lost on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.nano.alignment import TimedSpeech, settle

pytestmark = pytest.mark.unit
RATE = 1000


def _speech(loud: list[tuple[int, int]], total: int, symbols: str, ends: list[int]) -> TimedSpeech:
    samples = np.zeros(total, np.float32)
    for start, end in loud:
        samples[start:end] = np.where(np.arange(end - start) % 2, 0.5, -0.5)
    return TimedSpeech(samples, RATE, tuple(symbols), tuple(ends))


def test_silence_ends_at_the_first_sound_and_starts_at_the_last() -> None:
    speech = _speech([(100, 400)], 1000, "_nis._", [180, 250, 330, 650, 800, 1000])
    assert settle(speech, lag_samples=50).ends_samples == (100, 200, 280, 400, 1000, 1000)


def test_a_pause_inside_is_found_and_a_mark_without_pause_stays() -> None:
    speech = _speech([(100, 300), (500, 800)], 1000, "_n,i,s_", [100, 350, 450, 650, 700, 850, 1000])
    assert settle(speech, lag_samples=0).ends_samples == (100, 300, 500, 650, 700, 800, 1000)


def test_squeezed_phones_keep_their_order_and_ten_milliseconds() -> None:
    speech = _speech([(100, 200)], 1000, "_nist_", [300, 500, 600, 700, 900, 1000])
    assert settle(speech, lag_samples=0).ends_samples == (100, 170, 180, 190, 200, 1000)


@given(
    st.lists(st.integers(1, 120), min_size=2, max_size=14),
    st.lists(st.sampled_from("_n.i"), min_size=14, max_size=14),
    st.integers(0, 100),
    st.randoms(use_true_random=False),
)
def test_times_stay_in_order_and_cover_the_sound(durations: list[int], symbols: list[str], lag: int, rng) -> None:  # type: ignore[no-untyped-def]  # hypothesis hands over a random.Random of its own
    ends = np.cumsum(durations).tolist()
    samples = np.repeat([rng.choice([0.0, 0.5]) for _ in range(ends[-1] // 10 + 1)], 10)[: ends[-1]]
    speech = TimedSpeech(samples.astype(np.float32), RATE, tuple(symbols[: len(ends)]), tuple(ends))
    settled = settle(speech, lag_samples=lag).ends_samples
    assert list(settled) == sorted(settled)
    assert settled[-1] == ends[-1]
    assert settled[0] >= 0
