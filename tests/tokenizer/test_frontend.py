"""The online front end: recorded features, any chunking, and which rows exist at which length."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from services.shared.audio.files import read_audio
from services.tokenizer import SpeechTokenizer
from services.tokenizer.paraformer.frontend import CHUNK_SAMPLES, OnlineFrontEnd
from tests.conftest import golden_file, report
from tests.tokenizer.conftest import cut

NOISE = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) * 0.1


def front_end(*, dither: float = 0.0, released_quirks: bool = False) -> OnlineFrontEnd:
    return OnlineFrontEnd(torch.zeros(560), torch.ones(560), dither=dither, released_quirks=released_quirks)


def rows_of(front: OnlineFrontEnd, samples: Tensor, sizes: list[int]) -> Tensor:
    state = front.initial_state()
    rows = []
    pieces = cut(len(samples), sizes)
    for index, piece in enumerate(pieces):
        got, state = front.push(samples[piece], state, final=index == len(pieces) - 1)
        rows.append(got)
    return torch.cat(rows)


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["sweep_0p30", "burst_1p00", "voice_3p37", "voice_35p00"])
def test_features_equal_the_recorded_ones(golden_tokenizer: SpeechTokenizer, clip: str) -> None:
    recorded = np.load(golden_file(f"lingtok/{clip}.npz"))
    samples = torch.from_numpy(read_audio(golden_file(f"wavs/{clip}.wav")).samples)
    front = golden_tokenizer.linguistic.front_end
    features, _ = front.push(samples, front.initial_state(), final=True)
    assert len(features) == recorded["chunk_frames"].sum()
    report(f"{clip} features", features[:: int(recorded["feat_stride"])], recorded["feats"], max_abs=2e-4)


@pytest.mark.unit
@settings(max_examples=40)
@given(length=st.integers(0, 20_000), sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5))
def test_pushes_of_any_sizes_give_the_same_rows(length: int, sizes: list[int]) -> None:
    whole = rows_of(front_end(), NOISE[:length], [20_001])
    pushed = rows_of(front_end(), NOISE[:length], sizes)
    assert pushed.shape == whole.shape
    assert torch.allclose(pushed, whole, atol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("length", [0, 1, 399, 400, 879, 880, 3839, 3840, 4719, 4720, 7680, 11_520, 19_999])
def test_an_utterance_has_a_row_for_every_60_ms_but_none_for_a_tail_below_seven_frames(length: int) -> None:
    frames = (length - 400) // 160 + 1 if length >= 400 else 0
    full_chunks = length // CHUNK_SAMPLES
    tail_is_too_short = frames + 3 - 24 * full_chunks < 7
    expected = 4 * full_chunks if tail_is_too_short else -(-frames // 6)
    assert len(rows_of(front_end(), NOISE[:length], [20_001])) == expected


@pytest.mark.unit
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_the_flush_that_the_release_leaves_out_at_a_chunk_border_holds_no_row(chunks: int) -> None:
    samples = NOISE[: chunks * CHUNK_SAMPLES]
    ours = rows_of(front_end(), samples, [20_001])
    released = rows_of(front_end(released_quirks=True), samples, [20_001])
    frames = (len(samples) - 400) // 160 + 1
    assert len(ours) == -(-frames // 6)
    assert torch.equal(ours, released)


@pytest.mark.unit
def test_rows_come_out_with_the_last_sample_of_their_chunk() -> None:
    front = front_end()
    early, state = front.push(NOISE[: CHUNK_SAMPLES - 1], front.initial_state(), final=False)
    late, _ = front.push(NOISE[CHUNK_SAMPLES - 1 : CHUNK_SAMPLES], state, final=False)
    assert (len(early), len(late)) == (0, 4)


@pytest.mark.unit
def test_the_state_holds_little_more_than_one_chunk_and_is_not_changed_by_a_push() -> None:
    front = front_end()
    state = front.initial_state()
    for start in range(0, 20_000, 500):
        _, state = front.push(NOISE[start : start + 500], state, final=False)
        assert len(state.samples) < CHUNK_SAMPLES + 480 + 500
    before = state.samples.clone()
    first, _ = front.push(NOISE[:4000], state, final=True)
    second, _ = front.push(NOISE[:4000], state, final=True)
    assert torch.equal(first, second)
    assert torch.equal(state.samples, before)


@pytest.mark.unit
def test_dither_is_noise_that_depends_on_the_position_only() -> None:
    quiet = torch.zeros(12_000)
    noisy = rows_of(front_end(dither=1.0), quiet, [20_001])
    assert (noisy - rows_of(front_end(), quiet, [20_001])).abs().mean() > 1.0
    assert torch.allclose(rows_of(front_end(dither=1.0), quiet, [777, 5000]), noisy, atol=1e-3)
    assert not torch.equal(noisy[4], noisy[8])
