"""HiFT: what is trained is the room's own network, with gradients everywhere, and it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nano.hift import data
from services.nano.hift.data import Sound, WaveCorpus
from services.nano.hift.forward import predicted_f0, synthesise, weighted
from services.nano.hift.losses import log_mel, spectral_distance
from services.nano.hift.pitch import pitch
from services.nano.hift.task import Discriminator, HiftTask, _compared, begin, ready
from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.shared.nn.features import PROMPT_MEL_RATE_HZ, mel_spectrogram_22k
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import HIFT_FILE, load_config
from services.vocoder.hift import HiFT
from tests.conftest import NANO

pytestmark = pytest.mark.unit

FOLDER = NANO / TTS_FOLDER / VOCODER_FOLDER
HOP = 256


def _standing() -> HiFT:
    hift = HiFT(load_config(FOLDER).hift)
    load_strictly(hift, read_torch_state(FOLDER / HIFT_FILE), FOLDER)
    return hift


def _hum(pitch_hz: float, frames: int) -> NDArray[np.float32]:
    time_s = np.arange(frames * HOP) / PROMPT_MEL_RATE_HZ
    waves = (np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 20))
    return np.asarray(0.2 * np.sum(list(waves), axis=0), np.float32)


def _sound(identity: str, pitch_hz: float, *, is_judged: bool = False) -> Sound:
    wave = _hum(pitch_hz, 48)
    mel = mel_spectrogram_22k(torch.from_numpy(wave))[0].half().numpy()
    return Sound(identity, is_judged, (wave * 32_767).astype(np.int16), mel, pitch(wave).astype(np.float16))


def test_the_trained_forward_pass_equals_the_rooms_own() -> None:
    hift, mel = _standing(), torch.from_numpy(_sound("a", 150.0).mel.astype(np.float32)).T[None]
    torch.manual_seed(1)
    own = ready(hift).wave(mel)
    torch.manual_seed(1)
    with torch.no_grad(), weighted(hift):
        found = synthesise(hift, mel, predicted_f0(hift, mel))
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


def test_every_parameter_gets_a_gradient_and_no_weight_stays_behind() -> None:
    hift = HiFT(load_config(FOLDER).hift)
    begin(hift, 0)
    mel = torch.randn(2, 80, 8) - 5
    with weighted(hift):
        f0 = predicted_f0(hift, mel)
        (synthesise(hift, mel, torch.full((2, 8), 120.0)).square().mean() + f0.mean()).backward()
    without = [name for name, parameter in hift.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(
        float(parameter.grad.abs().max()) < float("inf")
        for parameter in hift.parameters()
        if parameter.grad is not None
    )
    assert set(hift.state_dict()) == set(_standing().state_dict())


def test_the_mel_of_a_batch_is_the_rooms_own() -> None:
    waves = torch.randn(2, 20 * HOP) * 0.1
    for found, wave in zip(log_mel(waves), waves, strict=True):
        torch.testing.assert_close(found.T, mel_spectrogram_22k(wave)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pitch_hz", [85.0, 140.0, 310.0])
def test_the_pitch_of_a_hum_is_found_and_silence_and_noise_have_none(pitch_hz: float) -> None:
    rng = np.random.default_rng(0)
    quiet = rng.standard_normal(20 * HOP).astype(np.float32) * 0.02
    found = pitch(np.concatenate([_hum(pitch_hz, 40), np.zeros(20 * HOP, np.float32), quiet]))
    assert len(found) == 80
    np.testing.assert_allclose(found[4:36], pitch_hz, rtol=0.02)
    assert (found[44:56] == 0).all()
    assert (found[62:] > 0).mean() < 0.2


def test_equal_waves_have_no_distance_and_another_pitch_has_one() -> None:
    hum = torch.from_numpy(_hum(140.0, 20))[None]
    assert float(spectral_distance(hum, hum)) == 0.0
    assert float(spectral_distance(torch.from_numpy(_hum(180.0, 20))[None], hum)) > 0.3


def test_a_few_steps_bring_the_wave_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "BATCH", 1)
    torch.manual_seed(0)
    hift = _standing()
    corpus = WaveCorpus([_sound("a", 150.0), _sound("b", 150.0, is_judged=True)])
    task = HiftTask(hift, corpus)
    before = task.judge()
    optimizer = torch.optim.AdamW(hift.parameters(), lr=1e-3)
    for step in range(10):
        loss, _ = task.loss(np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hift.parameters(), 5.0)
        optimizer.step()
    after = task.judge()
    assert after["score"] > before["score"] + 0.05
    assert after["mel"] < before["mel"]


def test_the_flows_mels_take_part_and_are_judged() -> None:
    level = np.full((47, 80), -3.0, np.float16)
    made = replace(_sound("a", 150.0), made=level)
    judged = replace(_sound("b", 150.0, is_judged=True), made=level)
    corpus = WaveCorpus([made, judged])
    assert len(corpus.judged[0].mel) == 47
    mels = [corpus.draw(np.random.default_rng(n)).mel for n in range(4)]
    assert any(bool((mel == -3.0).all(dim=(1, 2)).any()) for mel in mels)


def test_the_generators_share_of_the_adversarial_loss_moves_no_discriminator() -> None:
    judge = Discriminator(512, channels=2)
    waves = torch.randn(1, 32 * HOP, requires_grad=True)
    made, _, told = _compared(judge, waves, torch.randn(1, 32 * HOP))
    (1 - made[-1]).square().mean().backward()
    assert all(parameter.grad is None for parameter in judge.parameters())
    assert waves.grad is not None
    before: Tensor = waves.grad.clone()
    told.backward()
    assert all(parameter.grad is not None for parameter in judge.parameters())
    torch.testing.assert_close(waves.grad, before)


def test_against_discriminators_the_newest_weights_are_kept() -> None:
    corpus = WaveCorpus([_sound("a", 150.0)])
    task = HiftTask(_standing(), corpus, adversarial=True)
    scores = [task.judge()["score"] for _ in range(2)]
    assert scores[1] > scores[0]
