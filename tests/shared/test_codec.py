"""The codec: recorded interleaves, recorded texts, and the round trips."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.codec.codebooks import CODEC_SIZE, LINGUISTIC_SIZE, SEMANTIC_SIZE, TOKEN_RATE_HZ
from services.shared.codec.interleave import deinterleave, interleave
from services.shared.codec.text_form import from_text, to_text
from services.shared.errors import MisalignedSpeechError, UnknownTokenError
from tests.conftest import golden_file

PUBLIC_AUDIO_OFFSET = 65_536

linguistic_codes = st.lists(st.integers(0, LINGUISTIC_SIZE - 1), max_size=40)
semantic_codes = st.lists(st.integers(0, SEMANTIC_SIZE - 1), max_size=60)


@pytest.mark.golden
def test_interleaving_equals_both_recorded_forms() -> None:
    cases = json.loads(golden_file("preproc/interleave.json").read_text())["interleave"]
    assert len(cases) > 5
    for case in cases:
        values = interleave(case["vq02"], case["vq06"])
        assert [PUBLIC_AUDIO_OFFSET + value for value in values.tolist()] == case["wav2token"]
        assert to_text(values.tolist()) == case["merge_str"]


@pytest.mark.golden
def test_reading_text_equals_the_recorded_ids() -> None:
    for case in json.loads(golden_file("text/get_audio_tokens.json").read_text()):
        assert [PUBLIC_AUDIO_OFFSET + value for value in from_text(case["s"])] == case["ids"]


@pytest.mark.unit
@given(linguistic=linguistic_codes, semantic=semantic_codes)
def test_whole_groups_survive_the_round_trip(linguistic: list[int], semantic: list[int]) -> None:
    values = interleave(linguistic, semantic)
    groups = min(len(linguistic) // 2, len(semantic) // 3)
    assert len(values) == 5 * groups
    first, second = deinterleave(values)
    assert first.tolist() == linguistic[: 2 * groups]
    assert second.tolist() == semantic[: 3 * groups]


@pytest.mark.unit
@given(linguistic=linguistic_codes, semantic=semantic_codes)
def test_text_survives_the_round_trip(linguistic: list[int], semantic: list[int]) -> None:
    values = interleave(linguistic, semantic).tolist()
    assert from_text(to_text(values)) == values


@pytest.mark.unit
@given(
    linguistic=st.lists(st.integers(0, 1023), min_size=4, max_size=8),
    semantic=st.lists(st.integers(0, 4095), min_size=6, max_size=12),
    drop=st.integers(0, 9),
)
def test_a_stream_that_lost_a_token_is_refused(linguistic: list[int], semantic: list[int], drop: int) -> None:
    values = interleave(linguistic, semantic)
    with pytest.raises(MisalignedSpeechError):
        deinterleave(np.delete(values, drop))


@pytest.mark.unit
def test_a_stream_of_whole_length_in_a_wrong_pattern_is_refused() -> None:
    with pytest.raises(MisalignedSpeechError):
        deinterleave([1, 1024, 1024, 1024, 1024])
    with pytest.raises(MisalignedSpeechError):
        deinterleave([1, 1, 1, 1024, 1024])


@pytest.mark.unit
@pytest.mark.parametrize(
    ("linguistic", "semantic"), [([1024, 0], [0, 0, 0]), ([0, -1], [0, 0, 0]), ([0, 0], [4096, 0, 0])]
)
def test_codes_outside_their_codebook_are_refused(linguistic: list[int], semantic: list[int]) -> None:
    with pytest.raises(UnknownTokenError):
        interleave(linguistic, semantic)


@pytest.mark.unit
@pytest.mark.parametrize("text", ["<audio_5120>", "<audio_1> <audio_2>", "hello", "<audio_1", "<audio_-1>"])
def test_text_that_is_no_speech_is_refused(text: str) -> None:
    with pytest.raises(UnknownTokenError):
        from_text(text)


@pytest.mark.unit
def test_values_outside_the_codec_are_refused() -> None:
    for value in (-1, CODEC_SIZE):
        with pytest.raises(UnknownTokenError):
            to_text([value])
        with pytest.raises(UnknownTokenError):
            deinterleave([value, 0, 1024, 1024, 1024])


@pytest.mark.unit
def test_the_rate_is_five_tokens_every_120_ms() -> None:
    assert float(TOKEN_RATE_HZ) == pytest.approx(41.6667, abs=1e-3)
