"""The orchestrator's spectrogram is the one that the torch code computes, of 80 bands."""

import numpy as np
import pytest
import torch

from services.orchestrator.adapters.log_mel import BANDS, log_mel
from services.shared.nn import features

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("samples", [16_000, 128_000])
def test_it_equals_the_spectrogram_of_the_rooms(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WHISPER_MELS", BANDS)
    time_s = np.arange(samples) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * (200 + 900 * time_s) * time_s) + np.random.default_rng(1).normal(0, 0.01, samples)
    expected = features.whisper_log_mel(torch.from_numpy(wave.astype(np.float32))).numpy()
    found = log_mel(wave.astype(np.float32))
    assert found.dtype == np.float32
    assert found.shape == (BANDS, samples // 160)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_silence_is_as_flat_as_it_can_be() -> None:
    assert np.ptp(log_mel(np.zeros(16_000, np.float32))) == 0.0
