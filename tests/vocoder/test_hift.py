"""HiFT's own rules: what it refuses, its phase over time, and a stream that equals the whole exactly."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidInputError
from services.vocoder.hift import HiFT, load_hift
from services.vocoder.hift.source import Excitation
from services.vocoder.hift.stream import held_frames, initial_hift_state, push_mel
from services.vocoder.streaming import excitation
from tests.vocoder.cases import GOLDEN_FOLDER, NANO_FOLDER

pytestmark = pytest.mark.unit

FRAMES = 75


@pytest.fixture(scope="module")
def hift() -> HiFT:
    return load_hift(NANO_FOLDER)


def mel_of(frames: int, seed: int = 0) -> torch.Tensor:
    """Smooth random mel with voiced and unvoiced stretches."""
    generator = torch.Generator().manual_seed(seed)
    slow = torch.randn(1, 80, frames // 5 + 2, generator=generator)
    return torch.nn.functional.interpolate(slow, size=frames, mode="linear") * 3 - 5


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, FRAMES), max_size=6))
def test_any_chunking_of_the_mel_gives_the_same_wave(hift: HiFT, cuts: list[int]) -> None:
    mel = mel_of(FRAMES)
    random = excitation(3, 9, 0, FRAMES)
    whole = hift.wave(mel, phase=random.phase, noise=random.noise)[0].numpy()
    state = initial_hift_state()
    chunks = []
    edges = [0, *sorted(cuts), FRAMES]
    for start, end in pairwise(edges):
        chunk, state = push_mel(hift, mel[0, :, start:end], state, lambda a, b: excitation(3, 9, a, b), final=False)
        chunks.append(chunk)
    chunk, state = push_mel(hift, mel[0, :, :0], state, lambda a, b: excitation(3, 9, a, b), final=True)
    streamed = np.concatenate([*chunks, chunk])
    assert len(streamed) == len(whole) == FRAMES * 256
    assert np.abs(streamed - whole).max() < 1e-4


def test_a_long_stream_stays_on_the_phase_of_the_whole_and_keeps_little(hift: HiFT) -> None:
    frames = 400
    mel = mel_of(frames, seed=1)
    random = excitation(4, 9, 0, frames)
    whole = hift.wave(mel, phase=random.phase, noise=random.noise)[0].numpy()
    state = initial_hift_state()
    chunks = []
    for start in range(0, frames, 57):
        chunk, state = push_mel(
            hift,
            mel[0, :, start : start + 57],
            state,
            lambda a, b: excitation(4, 9, a, b),
            final=start + 57 >= frames,
        )
        assert state.mel.shape[1] <= 2 * held_frames(hift) + 57
        chunks.append(chunk)
    assert np.abs(np.concatenate(chunks) - whole).max() < 1e-4


def test_less_context_than_held_would_be_heard(hift: HiFT) -> None:
    """The held frames are needed: the wave near a cut differs from the whole's, and only there."""
    mel = mel_of(60)
    source = torch.randn(1, 1, 60 * 256, generator=torch.Generator().manual_seed(1)) * 0.1
    whole = hift.wave(mel, source=source)[0]
    cut = hift.wave(mel[:, :, 20:], source=source[:, :, 20 * 256 :])[0]
    difference = (whole[20 * 256 :] - cut).abs().reshape(40, 256).amax(dim=1)
    assert difference[:4].max() > 1e-4
    assert difference[hift.reach_frames :].max() < 1e-5


def test_cycles_are_the_running_sum_of_f0_however_it_is_cut(hift: HiFT) -> None:
    f0 = torch.rand(1, 2000, generator=torch.Generator().manual_seed(0)) * 300 + 80
    whole = hift.m_source.cycles(f0, 0.0)
    exact = torch.remainder((f0[0].double() / 22050).repeat_interleave(256).cumsum(0), 1.0)
    gap = (whole - exact).abs()
    assert torch.minimum(gap, 1 - gap).max() < 1e-8
    after = hift.m_source.cycles_after(f0[:, :1234], 0.0)
    gap = (hift.m_source.cycles(f0[:, 1234:], after) - whole[1234 * 256 :]).abs()
    assert torch.minimum(gap, 1 - gap).max() < 1e-9
    assert 0 <= after < 1


def test_a_steady_f0_gives_a_sine_of_that_pitch(hift: HiFT) -> None:
    frames = 43
    quiet = torch.zeros(1, 9, frames * 256)
    source = hift.m_source(torch.full((1, frames), 220.0), Excitation(torch.zeros(1, 9, 1), quiet))
    spectrum = torch.fft.rfft(source[0, 0] * torch.hann_window(frames * 256)).abs()
    peak_hz = float(spectrum[5:].argmax() + 5) * 22050 / (frames * 256)
    assert math.isclose(peak_hz / 220, round(peak_hz / 220), abs_tol=0.02), "the strongest line is a harmonic"


@pytest.mark.parametrize("shape", [(1, 80, 0), (80, 5), (1, 79, 5), (2, 80, 5)])
def test_a_mel_of_the_wrong_shape_is_refused(hift: HiFT, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="the mel is"):
        hift.wave(torch.zeros(shape))


@pytest.mark.parametrize("name", ["phase", "noise", "source"])
def test_randomness_of_the_wrong_shape_is_refused(hift: HiFT, name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the {name} is"):
        hift.wave(mel_of(5), **{name: torch.zeros(1, 2, 3)})


def test_without_given_randomness_two_runs_differ_and_stay_within_the_limit() -> None:
    hift = load_hift(GOLDEN_FOLDER)
    first, second = hift.wave(mel_of(8)), hift.wave(mel_of(8))
    assert first.shape == (1, 8 * 256)
    assert not torch.equal(first, second)
    assert first.abs().max() <= 0.99
