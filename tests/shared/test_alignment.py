"""Bringing generated speech back to 2:3: what is mended, what is refused, in pieces as in one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.codec import CODEC_SIZE, SEMANTIC_OFFSET, deinterleave
from services.shared.codec.alignment import MAX_FAULT_SHARE, MAX_FREE_FAULTS, Repairs, SpeechAligner
from services.shared.errors import MisalignedSpeechError, TextInSpeechError

pytestmark = pytest.mark.unit

OFFSET = 1192
GROUP = [3, 700, 1024, 2048, 5119]


def align(values: list[int]) -> tuple[list[list[int]], Repairs]:
    aligner = SpeechAligner(OFFSET)
    groups = aligner.push(value + OFFSET for value in values)
    aligner.finish()
    return groups, aligner.repairs


def test_a_correct_stream_passes_unchanged() -> None:
    assert align(GROUP * 3) == ([GROUP] * 3, Repairs(seen=15))


def test_leading_semantic_tokens_are_left_out() -> None:
    assert align([1500, 1600, *GROUP]) == ([GROUP], Repairs(seen=7, spurious_semantic=2))


def test_a_missing_linguistic_token_is_said_twice() -> None:
    assert align([3, 1024, 2048, 5119, *GROUP]) == ([[3, 3, 1024, 2048, 5119], GROUP], Repairs(seen=9, repeated=1))


def test_a_third_linguistic_token_is_left_out() -> None:
    assert align([3, 700, 9, 1024, 2048, 5119]) == ([GROUP], Repairs(seen=6, extra_linguistic=1))


def test_missing_semantic_tokens_are_filled_with_the_last_one() -> None:
    groups, repairs = align([3, 700, 1024, *GROUP])

    assert groups == [[3, 700, 1024, 1024, 1024], GROUP]
    assert repairs == Repairs(seen=8, repeated=2)


def test_an_unfinished_group_at_the_end_is_left_out() -> None:
    assert align([*GROUP, 3, 700, 1024]) == ([GROUP], Repairs(seen=8, unfinished=3))


def test_groups_come_out_as_soon_as_they_are_whole() -> None:
    aligner = SpeechAligner(OFFSET)

    assert [len(aligner.push([value + OFFSET])) for value in GROUP * 2] == [0, 0, 0, 0, 1] * 2


@pytest.mark.parametrize("token_id", [0, 3, OFFSET - 1, OFFSET + CODEC_SIZE])
def test_an_id_that_is_no_speech_is_refused_and_named(token_id: int) -> None:
    aligner = SpeechAligner(OFFSET)
    aligner.push(value + OFFSET for value in GROUP)

    with pytest.raises(TextInSpeechError, match=f"id {token_id} after 5 speech tokens") as caught:
        aligner.push([token_id])
    assert caught.value.retryable


def test_a_stream_is_refused_at_the_stated_number_of_faults() -> None:
    aligner = SpeechAligner(OFFSET)
    leading = int(MAX_FREE_FAULTS / (1 - MAX_FAULT_SHARE))
    aligner.push([SEMANTIC_OFFSET + OFFSET] * leading)

    with pytest.raises(MisalignedSpeechError, match="6 of 6"):
        aligner.push([SEMANTIC_OFFSET + OFFSET])


def test_a_rare_fault_in_a_long_stream_is_mended_for_ever() -> None:
    groups, repairs = align((GROUP * 5 + [1024]) * 40)

    assert len(groups) == 200
    assert repairs.spurious_semantic == 40


@given(st.lists(st.integers(0, CODEC_SIZE - 1), max_size=60), st.data())
def test_any_chunking_gives_the_same_groups_or_the_same_error(values: list[int], data: st.DataObject) -> None:
    ids = [value + OFFSET for value in values]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=6)))
    pieces = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]

    def run(pieces: list[list[int]]) -> tuple[list[list[int]], Repairs, bool]:
        aligner = SpeechAligner(OFFSET)
        groups: list[list[int]] = []
        try:
            for piece in pieces:
                groups += aligner.push(piece)
        except MisalignedSpeechError:
            return groups, aligner.repairs, True
        aligner.finish()
        return groups, aligner.repairs, False

    groups, repairs, refused = run(pieces)
    if not refused:
        assert align(values) == (groups, repairs)
    else:
        with pytest.raises(MisalignedSpeechError):
            align(values)


@settings(max_examples=200)
@given(st.lists(st.integers(0, CODEC_SIZE - 1), max_size=60))
def test_what_comes_out_is_always_2_to_3_and_every_token_is_accounted_for(values: list[int]) -> None:
    try:
        groups, repairs = align(values)
    except MisalignedSpeechError:
        return
    deinterleave([value for group in groups for value in group])
    left_out = repairs.spurious_semantic + repairs.extra_linguistic + repairs.unfinished
    assert 5 * len(groups) == repairs.seen - left_out + repairs.repeated
