"""The fast modules equal the plain order of work, on the recorded weights."""

import pytest
import torch

from benchmarks.released.vocoder import PlainVocoder
from services.shared.nn.checkpoint import read_torch_state
from services.vocoder.config import load_config
from services.vocoder.flow import load_flow
from services.vocoder.hift import load_hift
from tests.vocoder.cases import GOLDEN_FOLDER, recorded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["a_prompt", "b_noprompt"])
def test_fast_equals_plain(name: str) -> None:
    case = recorded(name)
    plain = PlainVocoder(
        load_config(GOLDEN_FOLDER),
        read_torch_state(GOLDEN_FOLDER / "flow.pt"),
        read_torch_state(GOLDEN_FOLDER / "hift.pt"),
    )
    tokens = torch.as_tensor(case.arrays["in_token"])
    phase, noise = torch.as_tensor(case.arrays["phase_vec"]), torch.as_tensor(case.source_noise)
    plain_mel = plain.mel(tokens, case.voice, torch.as_tensor(case.start_noise))
    fast_mel = load_flow(GOLDEN_FOLDER).mel(tokens, case.voice, noise=case.start_noise)
    assert (plain_mel - fast_mel).abs().max() < 2e-5
    plain_wave = plain.wave(plain_mel, phase, noise)
    fast_wave = load_hift(GOLDEN_FOLDER).wave(plain_mel, phase=phase, noise=noise)
    assert (plain_wave - fast_wave).abs().max() < 2e-3
