"""Flow and HiFT against the tensors recorded from the release, within the tolerances of the recording's README."""

import pytest
import torch

from services.vocoder.flow import Flow, load_flow
from services.vocoder.flow.model import euler_grid
from services.vocoder.hift import HiFT, load_hift
from services.vocoder.hift.source import Excitation
from tests.conftest import report
from tests.vocoder.cases import CASES, GOLDEN_FOLDER, recorded

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def flow() -> Flow:
    return load_flow(GOLDEN_FOLDER)


@pytest.fixture(scope="module")
def hift() -> HiFT:
    return load_hift(GOLDEN_FOLDER)


@pytest.mark.parametrize("name", CASES)
def test_mel_equals_the_release(flow: Flow, name: str) -> None:
    case = recorded(name)
    mel = flow.mel(case.arrays["in_token"], case.voice, noise=case.start_noise)
    report(f"{name} mel", mel, case.arrays["mel"], max_abs=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_mel_is_as_near_as_the_releases_own(name: str) -> None:
    case = recorded(name)
    flow = load_flow(GOLDEN_FOLDER, dtype=torch.bfloat16)
    mel = flow.mel(case.arrays["in_token"], case.voice, noise=case.start_noise)
    for reference in ("mel", "mel_bf16ref"):
        difference = (mel - torch.as_tensor(case.arrays[reference])).abs()
        print(f"golden {name} bfloat16 against {reference}: max {difference.max():.2e} mean {difference.mean():.2e}")
        assert difference.mean() <= 0.07


def test_every_part_of_the_flow_equals_the_release(flow: Flow) -> None:
    case = recorded("a_prompt")
    arrays = case.arrays
    with torch.inference_mode():
        prompt_tokens, _, embedding = case.voice.as_tensors(torch.device("cpu"), speaker_size=192, mel_channels=80)
        speaker = flow.spk_embed_affine_layer(torch.nn.functional.normalize(embedding, dim=1))
        report("speaker", speaker, arrays["spks"], max_abs=2e-5)
        ids = torch.cat([prompt_tokens, torch.as_tensor(arrays["in_token"][0]).long()])[None]
        rows = flow.encoder(flow.input_embedding(ids))
        report("encoder", rows, arrays["encoder_out"], max_abs=2e-5)
        projected = flow.encoder_proj(rows)
        report("projection", projected, arrays["encoder_proj"], max_abs=2e-5)
        mu = torch.as_tensor(arrays["mu"])
        conditions = flow.estimator.conditions(mu, speaker, torch.as_tensor(arrays["cond"]))
        times = flow.estimator.times(torch.as_tensor(arrays["step_t"]))
        first = flow.estimator.velocity(torch.as_tensor(case.start_noise), conditions, times[0])
        report("first velocity", first, arrays["est0_out"], max_abs=5e-5)


def test_euler_times_equal_the_release() -> None:
    arrays = recorded("a_prompt").arrays
    times, lengths = euler_grid("cosine")
    report("step times", times, arrays["step_t"], max_abs=1e-6)
    report("grid", torch.cat([times, times[-1:] + lengths[-1:]]), arrays["t_span"], max_abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_wave_of_the_recorded_mel_equals_the_release(hift: HiFT, name: str) -> None:
    case = recorded(name)
    arrays = case.arrays
    report(f"{name} f0", hift.f0(arrays["mel"]), arrays["f0"], max_abs=1e-2)
    wave = hift.wave(arrays["mel"], phase=arrays["phase_vec"], noise=case.source_noise)
    report(f"{name} wave", wave, arrays["wav"], max_abs=2e-3)


@pytest.mark.parametrize("name", ["a_prompt", "b_noprompt", "c_odd_neg", "e_short"])
def test_source_equals_the_release_and_decodes_to_its_wave(hift: HiFT, name: str) -> None:
    case = recorded(name)
    arrays = case.arrays
    excitation = Excitation(torch.as_tensor(arrays["phase_vec"]), torch.as_tensor(case.source_noise))
    with torch.inference_mode():
        source = hift.m_source(torch.as_tensor(arrays["f0"]), excitation)
    report(f"{name} source", source, arrays["source"], max_abs=2e-3)
    report(f"{name} wave of it", hift.wave(arrays["mel"], source=arrays["source"]), arrays["wav"], max_abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_tokens_to_wave_equals_the_release_end_to_end(flow: Flow, hift: HiFT, name: str) -> None:
    case = recorded(name)
    mel = flow.mel(case.arrays["in_token"], case.voice, noise=case.start_noise)
    wave = hift.wave(mel, phase=case.arrays["phase_vec"], noise=case.source_noise)
    report(f"{name} end to end", wave, case.arrays["wav"], max_abs=5e-3)
