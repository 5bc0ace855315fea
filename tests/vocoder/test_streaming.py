"""The vocoder in chunks: lengths, sizes of chunks, seams, state."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.streaming_vocoder import log_mel_distance, loudness_at, mel_distances, stream, stream_mel
from services.shared.errors import InvalidOptionError, StepAudioError, UnknownTokenError
from services.vocoder import StreamSettings, Vocoder
from services.vocoder.streaming import Push
from tests.vocoder.cases import nano, nano_tokens, nano_voice, spoken

pytestmark = pytest.mark.integration

SHORT = StreamSettings(first_hop_frames=8, first_limit_frames=12, max_hop_frames=30, lookback_frames=20)


def push(
    vocoder: Vocoder, tokens: NDArray[np.int64], edges: list[int], *, last_empty: bool
) -> list[NDArray[np.float32]]:
    state = vocoder.initial_state(1)
    spans = list(zip([0, *edges], [*edges, len(tokens)], strict=True)) + ([(0, 0)] if last_empty else [])
    chunks = []
    for index, (start, end) in enumerate(spans):
        chunk, state = vocoder.chunk(tokens[start:end], nano_voice(), state, final=index == len(spans) - 1)
        chunks.append(chunk)
    return chunks


@settings(max_examples=10)
@given(
    length=st.integers(0, 90),
    cuts=st.lists(st.floats(0, 1), max_size=8),
    last_empty=st.booleans(),
    forgetful=st.booleans(),
)
def test_any_chunking_of_any_length_is_as_long_as_the_whole(
    length: int, cuts: list[float], last_empty: bool, forgetful: bool
) -> None:
    vocoder = replace(nano(), stream_settings=replace(SHORT, context_tokens=20 if forgetful else 1000))
    tokens = nano_tokens(18)[:length]
    chunks = push(vocoder, tokens, sorted(int(cut * length) for cut in cuts), last_empty=last_empty)
    streamed = np.concatenate(chunks)
    assert len(streamed) == vocoder.flow.frame_count(length) * 256
    assert np.isfinite(streamed).all()
    assert streamed.dtype == np.float32


def test_one_final_push_is_nearly_the_whole() -> None:
    """With 15 tokens the nominal places of frames are those of the even spread, so nothing else may differ."""
    tokens = nano_tokens(3)
    whole = nano().wave(tokens, nano_voice(), seed=1)
    chunk, _ = nano().chunk(tokens, nano_voice(), nano().initial_state(1), final=True)
    assert len(chunk) == len(whole)
    assert log_mel_distance(chunk, whole) < 0.05 < log_mel_distance(nano().wave(tokens, nano_voice(), seed=2), whole)


@pytest.mark.parametrize("group", [5, 25, 200])
def test_the_first_chunk_is_short_whatever_is_pushed_at_once(group: int) -> None:
    streamed = stream(nano(), nano_tokens(25), nano_voice(), seed=1, group=group)
    assert 0 < streamed.first_chunk_samples <= 0.5 * nano().sample_rate_hz


def test_a_streams_mel_is_nearer_to_the_wholes_than_another_seeds() -> None:
    streamed, another_seed = mel_distances(nano(), *spoken(), group=5)
    assert 0 < streamed < 0.5 * another_seed


def test_passes_take_twice_as_many_steps_each_up_to_all_and_stay_nearer_than_another_seed() -> None:
    (codes, voice), exact, hasty = spoken(), nano(), replace(nano(), stream_settings=StreamSettings(first_steps=3))
    tokens = codes[:70]
    passes: list[int] = []
    hook = nano().flow.estimator.final_proj.register_forward_hook(lambda _, __, out: passes.append(out.shape[2]))
    try:
        stream(hasty, tokens, voice, seed=1, group=5)
    finally:
        hook.remove()
    assert [passes.count(length) for length in dict.fromkeys(passes)] == [3, 6, 10]
    few, all_steps = (stream_mel(it, tokens, voice, seed=1, group=5) for it in (hasty, exact))
    another_seed = stream_mel(exact, tokens, voice, seed=2, group=5)
    assert 0 < np.abs(few - all_steps).mean() < 0.9 * np.abs(another_seed - all_steps).mean()


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_a_push_may_take_fewer_steps_than_the_settings_say_and_never_more(steps: int) -> None:
    vocoder = replace(nano(), stream_settings=StreamSettings(first_steps=6))
    rows: list[int] = []
    hook = vocoder.flow.estimator.final_proj.register_forward_hook(lambda _, __, out: rows.append(len(out)))
    try:
        state = vocoder.initial_state(1)
        for place, usual in enumerate((6, 10)):
            tokens = nano_tokens(12)
            rows.clear()
            (chunk,) = vocoder.chunks([Push(tokens, nano_voice(), state, final=False, steps=steps)])
            assert not isinstance(chunk, StepAudioError)
            samples, state = chunk
            assert len(samples)
            assert len(rows) == min(steps, usual), f"pass {place}"
    finally:
        hook.remove()


def test_a_first_pass_may_wait_for_less_and_later_ones_wait_as_ever() -> None:
    vocoder = nano()
    early = nano_tokens(10)[:20]
    (usual,) = vocoder.chunks([Push(early, nano_voice(), vocoder.initial_state(1), final=False)])
    (sooner,) = vocoder.chunks([Push(early, nano_voice(), vocoder.initial_state(1), final=False, first_hop_frames=15)])
    assert not isinstance(usual, StepAudioError)
    assert not isinstance(sooner, StepAudioError)
    assert (len(usual[0]), usual[1].passes) == (0, 0)
    assert (len(sooner[0]) > 0, sooner[1].passes) == (True, 1)
    later = [Push(early[:5], nano_voice(), sooner[1], final=False, first_hop_frames=hop) for hop in (None, 1)]
    for chunk in vocoder.chunks(later):
        assert not isinstance(chunk, StepAudioError)
        assert chunk[1].passes == 1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 11}, {"first_hop_frames": 0}, {"first_hop_frames": 173}])
def test_what_a_push_asks_for_is_bounded(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidOptionError, match=r"takes 1 to 10|waits for 1 to 172"):
        Push(nano_tokens(1), nano_voice(), nano().initial_state(0), False, **wrong)


def test_seams_are_no_louder_than_the_same_places_without_a_seam() -> None:
    vocoder = replace(nano(), stream_settings=SHORT)
    tokens, voice = spoken()
    at_seams, at_none = [], []
    for seed in range(1, 7):
        streamed = stream(vocoder, tokens, voice, seed=seed, group=5)
        one_push, _ = vocoder.chunk(tokens, voice, vocoder.initial_state(seed), final=True)
        at_seams += [loudness_at(streamed.wave, seam, vocoder.sample_rate_hz) for seam in streamed.seams]
        at_none += [loudness_at(one_push, seam, vocoder.sample_rate_hz) for seam in streamed.seams]
    seams, without = np.array(at_seams), np.array(at_none)
    assert len(seams) >= 200
    assert (seams.mean(axis=0) <= 1.1 * without.mean(axis=0)).all()
    assert (seams > 1.5 * without + 0.5).mean() < 0.02  # speech that begins at a seam is loud in both


def test_a_click_at_a_seam_would_be_noticed() -> None:
    tokens, voice = spoken()
    wave = nano().wave(tokens[:50], voice, seed=1)
    places = np.linspace(0, len(wave), 22).astype(int)[1:-1]
    clicks = [np.float32(0.5) * (np.arange(len(wave)) >= place) for place in places]
    clicked = np.array([loudness_at(wave + click, place, 22050) for click, place in zip(clicks, places, strict=True)])
    plain = np.array([loudness_at(wave, place, 22050) for place in places])
    assert ((clicked > 2 * plain).mean(axis=0) >= 0.7).all()  # loud speech hides one


def test_a_pushed_state_can_be_pushed_again_with_the_same_result() -> None:
    vocoder = nano()
    _, state = vocoder.chunk(nano_tokens(4), nano_voice(), vocoder.initial_state(1), final=False)
    first, _ = vocoder.chunk(nano_tokens(3), nano_voice(), state, final=True)
    second, _ = vocoder.chunk(nano_tokens(3), nano_voice(), state, final=True)
    assert np.array_equal(first, second)
    assert len(first)


def test_the_state_stays_small() -> None:
    vocoder = replace(nano(), stream_settings=replace(SHORT, context_tokens=60))
    state = vocoder.initial_state(1)
    for place in range(0, 180, 5):
        _, state = vocoder.chunk(nano_tokens(36)[place : place + 5], nano_voice(), state, final=False)
    assert state.tokens.nbytes + state.overlap.nbytes + state.hift.mel.nbytes < 40_000
    assert len(state.tokens) < 90
    assert state.first_token + len(state.tokens) == 180


def test_a_token_outside_the_codec_is_refused_when_it_is_pushed() -> None:
    voice = nano_voice()
    wrong_voice = replace(voice, tokens=np.full(5, -1))
    for tokens, heard in (([5120], voice), ([-1], voice), ([0], wrong_voice)):
        with pytest.raises(UnknownTokenError):
            nano().chunk(tokens, heard, nano().initial_state(1), final=False)
        with pytest.raises(UnknownTokenError):
            nano().wave(tokens * 5, heard, seed=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_hop_frames": 0},
        {"first_hop_frames": 60},
        {"hop_growth": 0.5},
        {"first_steps": 0},
        {"first_steps": 11},
        {"fade_frames": 13},
        {"lookback_frames": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidOptionError):
        StreamSettings(**wrong)


def test_a_seed_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="seed"):
        nano().initial_state(-1)


def test_streams_that_share_passes_sound_as_each_alone_and_a_wrong_one_spoils_nothing() -> None:
    """Two windows of one length, one of another, one that still gathers, one refused: all in one call."""
    vocoder = nano()
    pieces = [nano_tokens(12), nano_tokens(12)[::-1].copy(), nano_tokens(9), nano_tokens(1)]
    pushes = [
        Push(tokens, nano_voice(), vocoder.initial_state(seed), final=len(tokens) > 5)
        for seed, tokens in enumerate(pieces)
    ]
    wrong = Push(np.array([5120]), nano_voice(), vocoder.initial_state(9), final=True)
    *together, refused = vocoder.chunks([*pushes, wrong])
    assert isinstance(refused, UnknownTokenError)
    for push_alone, chunk in zip(pushes, together, strict=True):
        assert not isinstance(chunk, StepAudioError)
        samples, state = vocoder.chunk(push_alone.tokens, push_alone.voice, push_alone.state, final=push_alone.final)
        np.testing.assert_allclose(chunk[0], samples, atol=2e-4)
        assert (chunk[1].made_frames, chunk[1].passes) == (state.made_frames, state.passes)


def test_jobs_of_one_length_go_through_the_estimator_together() -> None:
    vocoder = nano()
    rows: list[int] = []
    hook = vocoder.flow.estimator.final_proj.register_forward_hook(lambda _, __, out: rows.append(len(out)))
    try:
        vocoder.chunks([Push(nano_tokens(9), nano_voice(), vocoder.initial_state(seed), True) for seed in range(3)])
    finally:
        hook.remove()
    assert rows == [6] * 10
