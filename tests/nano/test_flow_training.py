"""The flow: the normalised estimator and the folded one are one function, and training moves the room's own modules."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from services.nano.flow.data import FlowCorpus, Spoken, phones_of
from services.nano.flow.fold import FIRST, LAST, MelScale, folded, start_linear, unfold
from services.nano.flow.stage import start
from services.nano.flow.task import FlowBatch, FlowTask, Velocity, batch_mu, encoded, folded_flow
from services.nano.speech import Recording
from services.nano.tokens.store import Rendition
from services.nano.training.recorded import Clip
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import load_config
from services.vocoder.flow.estimator import Conditions
from services.vocoder.flow.model import Flow, _Grid
from services.vocoder.voice import VoiceFeatures
from tests.conftest import NANO

pytestmark = pytest.mark.unit

SCALE = MelScale(torch.linspace(-7, -3, 80), torch.linspace(1.5, 3.0, 80))


def _flow() -> Flow:
    torch.manual_seed(0)
    return Flow(load_config(NANO / TTS_FOLDER / VOCODER_FOLDER).flow)


def _state(batch: int, frames: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
    state, mu, prompt = (torch.randn(batch, 80, frames) * 2 - 3 for _ in range(3))
    return state, (mu, torch.randn(batch, 80), prompt), torch.rand(batch)


def test_the_batched_call_equals_the_rooms_own_for_each_row_with_and_without_conditions() -> None:
    estimator = _flow().estimator
    state, (mu, speaker, prompt), time = _state(2, 12)
    found = Velocity(estimator)(state, (mu, speaker, prompt), time, torch.tensor([True, False]))
    with torch.no_grad():
        for row in range(2):
            one = slice(row, row + 1)
            conditions = estimator.conditions(mu[one], speaker[one], prompt[one])
            both = estimator.velocity(state[one], conditions, estimator.times(time[one])[0])
            torch.testing.assert_close(found[row], both[row], atol=1e-4, rtol=1e-4)


def test_every_parameter_of_the_estimator_gets_a_gradient() -> None:
    estimator = _flow().estimator
    state, conditions, time = _state(2, 12)
    Velocity(estimator)(state, conditions, time, torch.tensor([True, True])).square().mean().backward()
    assert all(parameter.grad is not None for parameter in estimator.parameters())


def test_the_folded_first_convolutions_on_raw_mels_equal_the_own_ones_on_normalised_mels() -> None:
    estimator = _flow().estimator
    raw = folded(estimator, SCALE)
    mean, spread = SCALE.inputs
    inputs = torch.randn(2, 320, 9) * 3 - 4
    normalised = (F.pad(inputs, (1, 1)) - mean[:, None]) / spread[:, None]
    for name in FIRST:
        weight, bias = (estimator.get_parameter(f"{name}.{part}") for part in ("weight", "bias"))
        reach = weight.shape[2] // 2
        own = F.conv1d(normalised[:, :, 1 - reach : 10 + reach], weight, bias)
        found = F.conv1d(inputs, raw[f"{name}.weight"], raw[f"{name}.bias"], padding=reach)
        torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


def test_the_folded_last_layer_gives_the_velocity_of_raw_mels() -> None:
    estimator = _flow().estimator
    raw, hidden = folded(estimator, SCALE), torch.randn(2, estimator.final_proj.in_channels, 7)
    mean, spread = SCALE.velocity
    own = estimator.final_proj(hidden) * spread[:, None] + mean[:, None]
    torch.testing.assert_close(F.conv1d(hidden, raw[f"{LAST}.weight"], raw[f"{LAST}.bias"]), own, atol=1e-4, rtol=1e-4)


def test_the_saved_flow_equals_the_trained_one() -> None:
    flow = _flow()
    plain = folded_flow(flow, SCALE)
    state, (mu, speaker, prompt), time = _state(1, 12)
    raw = {f"estimator.{name}": value for name, value in folded(flow.estimator, SCALE).items()}
    trained = functional_call(Velocity(flow.estimator), raw, (state, (mu, speaker, prompt), time, torch.tensor([True])))
    conditions = plain.estimator.conditions(mu, speaker, prompt)
    assert isinstance(conditions, Conditions)
    saved = plain.estimator.velocity(state, conditions, plain.estimator.times(time)[0])[:1]
    torch.testing.assert_close(saved, trained, atol=1e-3, rtol=1e-3)


def test_what_was_saved_can_be_trained_again_as_if_it_had_never_been_folded() -> None:
    flow = _flow()
    again = folded_flow(flow, SCALE)
    unfold(again.estimator, SCALE)
    for name, value in flow.estimator.state_dict().items():
        torch.testing.assert_close(again.estimator.state_dict()[name], value, atol=1e-5, rtol=1e-5)


def test_the_batched_mu_equals_the_rooms_own() -> None:
    flow = _flow().eval()
    tokens, embedding = torch.randint(0, 40, (1, 35)), torch.randn(1, 192)
    prompt_frames, frames = flow.frame_count(10), flow.frame_count(25)
    voice = VoiceFeatures(tokens[:, :10], torch.zeros(1, prompt_frames, 80), embedding)
    phones = torch.zeros(1, prompt_frames + frames, dtype=torch.int64)
    batch = FlowBatch(tokens, 10, torch.zeros(1, 80, prompt_frames + frames), prompt_frames, embedding, phones)
    with torch.inference_mode():
        own = flow._mu(flow._prompt(voice), tokens[0, 10:], _Grid(frames))
        torch.testing.assert_close(batch_mu(flow, batch, encoded(flow, batch)), own)


class _OneBatch:
    def __init__(self, batch: FlowBatch) -> None:
        self._batch = batch

    def draw(self, rng: np.random.Generator) -> FlowBatch:
        return self._batch

    def judged(self) -> list[tuple[Tensor, VoiceFeatures, Tensor]]:
        return []


def test_the_first_guess_and_a_few_steps_from_it_look_at_the_noise() -> None:
    flow = _flow()
    start_linear(flow.estimator, SCALE)
    torch.manual_seed(5)
    mel = F.interpolate(torch.randn(4, 80, 6) * 2, size=24, mode="linear") - 5
    phones = torch.zeros(4, 24, dtype=torch.int64)
    batch = FlowBatch(torch.randint(0, 40, (4, 60)), 0, mel, 0, torch.randn(4, 192), phones)
    task = FlowTask(flow, SCALE, _OneBatch(batch))
    assert task.noise_left(batch, mel) < 0.3
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3)
    for _ in range(25):
        optimizer.zero_grad()
        task.velocity_error(batch, mel).mean().backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
    assert task.noise_left(batch, mel) < 0.2


def test_mu_alone_moves_nothing_of_the_estimator() -> None:
    flow = _flow()
    mel, phones = torch.randn(2, 80, 124), torch.zeros(2, 124, dtype=torch.int64)
    batch = FlowBatch(torch.randint(0, 40, (2, 60)), 0, mel, 0, torch.randn(2, 192), phones)
    task = FlowTask(flow, SCALE, _OneBatch(batch), estimating=False)
    loss, _ = task.loss(np.random.default_rng(0))
    loss.backward()
    assert all(parameter.grad is None for parameter in flow.estimator.parameters())
    assert flow.input_embedding.weight.grad is not None


def _spoken(text: str, *, is_judged: bool) -> Spoken:
    values = np.tile(np.array([3, 4, 1024, 2048, 3072]), 24)
    frames = _flow().frame_count(len(values))
    phones = np.arange(frames)
    mel = np.repeat(phones[:, None], 80, axis=1).astype(np.float16)
    return Spoken("one", text, is_judged, values, mel, np.zeros(192, np.float32), phones)


def test_codes_are_disturbed_by_near_ones_only_and_the_mel_stays() -> None:
    near = np.tile(np.arange(5120)[:, None] + 7, (1, 6))
    corpus = FlowCorpus([_spoken("known", is_judged=False)], _flow(), near)
    drawn = [corpus.draw(np.random.default_rng(number)) for number in range(20)]
    own = {3, 4, 1024, 2048, 3072}
    codes = torch.cat([batch.tokens.flatten() for batch in drawn])
    assert set(codes.tolist()) == own | {code + 7 for code in own}
    moved = float((torch.isin(codes, torch.tensor(sorted(own))).logical_not()).float().mean())
    assert 0.01 < moved < 0.1


def test_the_phones_of_a_piece_are_those_of_its_mel() -> None:
    corpus = FlowCorpus([_spoken("known", is_judged=False)], _flow(), np.zeros((5120, 6), np.int64))
    firsts = set()
    for number in range(20):
        batch = corpus.draw(np.random.default_rng(number))
        assert (batch.mel[:, 0] == batch.phones).all()
        firsts.update(batch.phones[:, batch.prompt_frames].tolist())
    assert len(firsts) > 5


def test_a_frame_has_the_phone_that_sounds_there_at_the_speed_it_is_heard() -> None:
    recording = Recording("a", "user", "", "", 0, (("bf_emma", 1.0),), Path("none"), 16_000, (), ())
    clip = Clip(recording, np.zeros(0, np.int16), np.array([5, 6, 7]), np.array([0.5, 1.0, 1.5]))
    values = np.zeros(5, np.int64)
    begun = phones_of(clip, Rendition("a", 0, 0.25, 1.0, values), 70)
    assert [begun[frame] for frame in (20, 23, 64, 65)] == [5, 6, 6, 7]  # 0.24 s, 0.27, 0.75, 0.76 behind the beginning
    fast = phones_of(clip, Rendition("a", 1, 0.0, 2.0, values), 60)
    assert [fast[frame] for frame in (20, 23, 42, 44)] == [5, 6, 6, 7]


def test_the_encoder_learns_which_phone_sounds() -> None:
    flow = _flow()
    tokens, phones = torch.randint(0, 40, (4, 60)), torch.arange(124).repeat(4, 1) // 31
    batch = FlowBatch(tokens, 0, torch.zeros(4, 80, 124), 0, torch.randn(4, 192), phones)
    task = FlowTask(flow, SCALE, _OneBatch(batch), estimating=False)
    optimizer = torch.optim.AdamW([*flow.encoder.parameters(), *task.helpers.parameters()], lr=3e-3)
    found = []
    for _ in range(30):
        loss, figures = task.loss(np.random.default_rng(0))
        found.append(figures["phones"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found[-1] < 0.3 * found[0]


def test_held_out_utterances_of_unseen_texts_are_judged_first() -> None:
    held = [_spoken("known", is_judged=True), _spoken("unseen", is_judged=True)]
    corpus = FlowCorpus([*held, _spoken("known", is_judged=False)], _flow(), np.zeros((5120, 6), np.int64))
    assert [one.text for one in corpus._held] == ["unseen", "known"]


def test_near_codes_begin_with_near_rows() -> None:
    flow, generator = _flow(), torch.Generator().manual_seed(1)
    books = (torch.randn(512, 20, generator=generator), torch.randn(512, 24, generator=generator))
    books[0][1] = books[0][0] + 0.01
    start(flow, SCALE, books)
    rows = flow.input_embedding.weight
    assert (rows[0] - rows[1]).norm() < 0.2 * (rows[0] - rows[2]).norm()
    torch.testing.assert_close(flow.length_regulator.model[-1].bias, SCALE.mean)
