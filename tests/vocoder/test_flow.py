"""The flow's own rules: what it refuses, how many frames it makes, what a window sees."""

import numpy as np
import pytest
import torch

from services.shared.errors import InvalidInputError, UnknownTokenError
from services.vocoder.flow import Flow, FrameWindow, VoiceFeatures, load_flow
from services.vocoder.flow.encoder import relative_positions, sample_rows, shift_to_keys, stretch
from services.vocoder.flow.estimator import mish
from tests.vocoder.cases import GOLDEN_FOLDER, recorded

pytestmark = pytest.mark.unit

EMPTY_VOICE = VoiceFeatures(np.zeros(0, np.int64), np.zeros((1, 0, 80), np.float32), np.ones(192, np.float32))


@pytest.fixture(scope="module")
def flow() -> Flow:
    return load_flow(GOLDEN_FOLDER)


@pytest.mark.parametrize("token", [5121, 70_000])
def test_a_token_past_the_vocabulary_is_refused(flow: Flow, token: int) -> None:
    with pytest.raises(UnknownTokenError, match=r"outside 0\.\.5120"):
        flow.mel(np.array([1, 2, token, 3, 4]), EMPTY_VOICE)


def test_the_network_reads_a_negative_token_as_0_and_the_check_before_it_refuses_one(flow: Flow) -> None:
    noise = np.zeros((1, 80, 10), np.float32)
    clamped = flow.mel([1, 2, -7, 3, 4], EMPTY_VOICE, noise=noise)
    assert torch.equal(clamped, flow.mel([1, 2, 0, 3, 4], EMPTY_VOICE, noise=noise))
    for token in (-7, 5121):
        with pytest.raises(UnknownTokenError, match=rf"{token} is outside 0\.\.5120"):
            flow.check_tokens([1, 2, token, 3, 4])


def test_tokens_may_have_a_batch_dimension_and_be_of_either_library(flow: Flow) -> None:
    noise = np.zeros((1, 80, 10), np.float32)
    first = flow.mel(np.arange(5), EMPTY_VOICE, noise=noise)
    assert torch.equal(first, flow.mel(torch.arange(5)[None], EMPTY_VOICE, noise=torch.from_numpy(noise)))
    assert first.shape == (1, 80, 10)


def test_frames_are_counted_with_the_releases_truncation(flow: Flow) -> None:
    assert [flow.frame_count(tokens) for tokens in (0, 1, 5, 25, 35, 23, 110)] == [0, 2, 10, 51, 72, 47, 227]


def test_no_tokens_are_refused(flow: Flow) -> None:
    with pytest.raises(InvalidInputError, match="too few"):
        flow.mel(np.zeros(0, np.int64), EMPTY_VOICE)


@pytest.mark.parametrize(
    ("voice", "complaint"),
    [
        (VoiceFeatures(np.arange(5), np.zeros((1, 0, 80), np.float32), np.ones(192)), "both or neither"),
        (VoiceFeatures(np.zeros(0), np.zeros((1, 9, 80), np.float32), np.ones(192)), "both or neither"),
        (VoiceFeatures(np.arange(5), np.zeros((1, 9, 81), np.float32), np.ones(192)), r"not \[1, frames, 80\]"),
        (VoiceFeatures(np.arange(5), np.zeros((1, 9, 80), np.float32), np.ones(191)), "191 values, not 192"),
        (VoiceFeatures(np.arange(5), np.full((1, 9, 80), np.nan, np.float32), np.ones(192)), "NaN"),
        (VoiceFeatures(np.arange(5), np.zeros((1, 9, 80), np.float32), np.full(192, np.inf)), "NaN or infinity"),
    ],
)
def test_a_voice_that_does_not_fit_is_refused(flow: Flow, voice: VoiceFeatures, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        flow.mel(np.arange(5), voice)


def test_noise_of_the_wrong_length_is_refused(flow: Flow) -> None:
    with pytest.raises(InvalidInputError, match=r"not \[1, 80, 10\]"):
        flow.mel(np.arange(5), EMPTY_VOICE, noise=np.zeros((1, 80, 11), np.float32))


def test_without_given_noise_two_runs_differ(flow: Flow) -> None:
    assert not torch.equal(flow.mel(np.arange(5), EMPTY_VOICE), flow.mel(np.arange(5), EMPTY_VOICE))


def test_a_window_of_all_frames_is_the_whole_utterance(flow: Flow) -> None:
    case = recorded("a_prompt")
    tokens = case.arrays["in_token"][0, :15]  # 31.01 frames: the nominal places are those of the even spread
    noise = case.start_noise[:, :, : 41 + 31]
    whole = flow.mel(tokens, case.voice, noise=noise)
    (window,) = flow.solve([flow.prepare_window(tokens, case.voice, FrameWindow(0, 31), noise=noise)])
    assert (whole - window).abs().max() < 0.02 * whole.abs().max()


def test_a_window_outside_the_frames_is_refused(flow: Flow) -> None:
    for window in (FrameWindow(0, 11), FrameWindow(4, 4), FrameWindow(-1, 5), FrameWindow(0, 12, first_token=1)):
        with pytest.raises(InvalidInputError, match="are not among those"):
            flow.prepare_window(np.arange(5), EMPTY_VOICE, window, noise=np.zeros((1, 80, 1), np.float32))


def test_forgotten_tokens_do_not_move_frames(flow: Flow) -> None:
    rows = torch.arange(40.0)[None, :, None]
    step = flow.tokens_per_frame
    frame = torch.arange(30, 40, dtype=torch.float64)
    place = (frame + 0.5) * step - 0.5
    assert torch.allclose(sample_rows(rows, place), sample_rows(rows[:, 10:], place - 10))
    assert flow.first_frame(0) == 0
    assert (flow.first_frame(10) + 0.5) * step - 0.5 >= 10 > (flow.first_frame(10) - 0.5) * step - 0.5


def test_stretching_matches_sampling_at_half_pixel_centres() -> None:
    rows = torch.randn(1, 7, 3)
    places = (torch.arange(15, dtype=torch.float64) + 0.5) * (7 / 15) - 0.5
    assert torch.allclose(stretch(rows, 15), sample_rows(rows, places), atol=1e-6)
    assert stretch(rows[:, :0], 0).shape == (1, 0, 3)


def test_scores_by_distance_become_scores_by_key() -> None:
    length = 4
    by_distance = torch.randn(1, 2, length, 2 * length - 1)
    shifted = shift_to_keys(by_distance)
    for query in range(length):
        for key in range(length):
            assert torch.equal(shifted[..., query, key], by_distance[..., query, length - 1 - (query - key)])


def test_relative_positions_equal_the_release() -> None:
    recorded_table = torch.as_tensor(recorded("a_prompt").arrays["tap_enc_pos_emb"])
    table = relative_positions(45, 64, torch.device("cpu"))
    assert (table - recorded_table).abs().max() < 2e-5


def test_fast_mish_is_torchs_over_the_whole_range() -> None:
    x = torch.cat([torch.linspace(-120, 120, 4001), torch.tensor([-1e30, 1e30, 0.0])])
    assert torch.allclose(mish(x), torch.nn.functional.mish(x), atol=3e-6, rtol=1e-6)
    assert mish(x.bfloat16()).dtype == torch.bfloat16
