"""Fading from one rendering to another."""

import numpy as np
import pytest

from services.shared.audio.crossfade import crossfade

pytestmark = pytest.mark.unit


def test_equal_renderings_stay_as_they_are() -> None:
    signal = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    assert np.allclose(crossfade(signal, signal), signal)


def test_it_goes_smoothly_from_the_first_to_the_second() -> None:
    faded = crossfade(np.zeros(101, np.float32), np.ones(101, np.float32))
    assert faded[0] < 0.001
    assert faded[-1] > 0.999
    assert faded[50] == pytest.approx(0.5)
    assert (np.diff(faded) > 0).all()
    assert faded.dtype == np.float32


def test_nothing_fades_to_nothing() -> None:
    nothing = np.zeros((80, 0), np.float32)
    assert crossfade(nothing, nothing).shape == (80, 0)
