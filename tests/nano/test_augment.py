"""What disturbs recorded speech keeps its length and its sound."""

import numpy as np
import pytest

from services.nano.training.augment import coded
from services.nano.training.recorded import RATE_HZ

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seconds", [0.3, 1.234])
def test_a_codec_keeps_length_and_place_and_changes_the_samples(seconds: float) -> None:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    samples = (0.3 * np.sin(2 * np.pi * 220 * time_s) * np.hanning(len(time_s))).astype(np.float32)
    back = coded(samples, np.random.default_rng(0))
    assert back.shape == samples.shape
    assert back.dtype == np.float32
    assert np.corrcoef(back, samples)[0, 1] > 0.9
    assert not np.array_equal(back, samples)
