"""Semantic codes of audio that arrives in pieces: `whole` is exact, `segmented` is near, timely and causal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.shared.errors import InvalidOptionError
from services.tokenizer import SemanticEncoder, SpeechTokenizer
from services.tokenizer.semantic.encoder import CODE_SAMPLES
from services.tokenizer.semantic.streaming import SegmentedStream, SegmentPlan, SemanticStream, WholeStream
from tests.tokenizer.conftest import cut

pytestmark = pytest.mark.unit

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 600_000).astype(np.float32)
PLANS = [SegmentPlan(), SegmentPlan(480, 120, 0), SegmentPlan(120, 960, 240), SegmentPlan(960, 480, 120)]


def codes_of(stream: SemanticStream, samples: NDArray[np.float32], sizes: list[int]) -> list[list[int]]:
    state = stream.initial_state()
    per_push = []
    pieces = cut(len(samples), sizes)
    for index, piece in enumerate(pieces):
        codes, state = stream.push(samples[piece], state, final=index == len(pieces) - 1)
        per_push.append(codes.tolist())
    return per_push


class Recorder(SemanticEncoder):
    """A stand-in encoder that answers zeros and notes the windows it was given, of samples that tell their position."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []

    def encode_piece(self, samples_16k: NDArray[np.float32]) -> NDArray[np.int64]:
        self.windows.append((int(samples_16k[0]), int(samples_16k[-1]) + 1))
        return np.zeros(-(-(len(samples_16k) // 160) // 4), np.int64)


@settings(max_examples=15)
@given(length=st.integers(0, 40_000), sizes=st.lists(st.integers(200, 30_000), min_size=1, max_size=4))
def test_whole_gives_the_offline_codes_for_pushes_of_any_sizes(
    golden_tokenizer: SpeechTokenizer, length: int, sizes: list[int]
) -> None:
    encoder = golden_tokenizer.semantic
    per_push = codes_of(WholeStream(encoder), NOISE[:length], sizes)
    assert [code for codes in per_push for code in codes] == encoder.encode(NOISE[:length]).tolist()
    assert not any(per_push[:-1])


def test_whole_hands_out_a_piece_of_30_s_when_it_is_complete(golden_tokenizer: SpeechTokenizer) -> None:
    encoder = golden_tokenizer.semantic
    per_push = codes_of(WholeStream(encoder), NOISE, [470_000, 20_000, 110_000])
    assert [len(codes) for codes in per_push] == [0, 750, 188]
    assert [code for codes in per_push for code in codes] == encoder.encode(NOISE).tolist()


@settings(max_examples=15)
@given(
    plan=st.sampled_from(PLANS),
    length=st.integers(0, 40_000),
    sizes=st.lists(st.integers(200, 30_000), min_size=1, max_size=4),
)
def test_segmented_gives_the_same_codes_for_pushes_of_any_sizes_and_as_many_as_whole(
    golden_tokenizer: SpeechTokenizer, plan: SegmentPlan, length: int, sizes: list[int]
) -> None:
    encoder = golden_tokenizer.semantic
    stream = SegmentedStream(encoder, plan)
    at_once = codes_of(stream, NOISE[:length], [600_000])[0]
    assert [code for codes in codes_of(stream, NOISE[:length], sizes) for code in codes] == at_once
    assert len(at_once) == len(encoder.encode(NOISE[:length]))


def test_segmented_shows_the_network_context_segment_and_lookahead() -> None:
    recorder = Recorder()
    stream = SegmentedStream(recorder, SegmentPlan(segment_ms=480, context_ms=960, lookahead_ms=240))
    positions = np.arange(30_000, dtype=np.float32)
    codes_of(stream, positions, [1000])
    ms = 16
    assert recorder.windows[:4] == [
        (0, 720 * ms),
        (0, 1200 * ms),
        (0, 1680 * ms),
        (480 * ms, 30_000),
    ]


@pytest.mark.parametrize("plan", PLANS)
def test_segmented_codes_are_out_within_the_stated_latency(
    golden_tokenizer: SpeechTokenizer, plan: SegmentPlan
) -> None:
    stream = SegmentedStream(golden_tokenizer.semantic, plan)
    state, out = stream.initial_state(), 0
    for start in range(0, 60_000, 320):
        codes, state = stream.push(NOISE[start : start + 320], state, final=False)
        out += len(codes)
        due = (start + 320 - plan.latency_ms * 16) // CODE_SAMPLES
        assert out >= due
        assert len(state.samples) <= (plan.context_ms + plan.latency_ms) * 16


def test_segmented_codes_do_not_depend_on_samples_after_their_lookahead(golden_tokenizer: SpeechTokenizer) -> None:
    stream = SegmentedStream(golden_tokenizer.semantic, SegmentPlan())
    out, _ = stream.push(NOISE[:30_000], stream.initial_state(), final=False)
    changed = np.concatenate([NOISE[:30_000], -NOISE[:30_000]])
    other, _ = stream.push(changed, stream.initial_state(), final=False)
    assert len(out) > 0
    assert other[: len(out)].tolist() == out.tolist()


@pytest.mark.parametrize(
    ("segment_ms", "context_ms", "lookahead_ms"),
    [(0, 960, 0), (100, 960, 0), (480, 0, 0), (480, 100, 0), (480, 960, -120), (480, 960, 50), (480, 29_520, 120)],
)
def test_plans_that_do_not_fit_the_codec_or_the_network_are_refused(
    segment_ms: int, context_ms: int, lookahead_ms: int
) -> None:
    with pytest.raises(InvalidOptionError):
        SegmentPlan(segment_ms, context_ms, lookahead_ms)
