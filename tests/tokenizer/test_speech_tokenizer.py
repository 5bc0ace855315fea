"""The joint tokenizer: offline, streamed, peeked at; and audio of every awkward kind."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.shared.audio.files import read_audio
from services.shared.audio.speech_input import prepare
from services.shared.codec.interleave import deinterleave, interleave
from services.shared.errors import EmptyAudioError, InvalidOptionError, NonFiniteAudioError
from services.tokenizer import SpeechTokenizer, TokenizerState
from services.tokenizer.speech_tokenizer import Codes, Mode
from tests.conftest import golden_file
from tests.tokenizer.conftest import cut

Samples = NDArray[np.float32]

pytestmark = pytest.mark.unit


def push_all(
    tokenizer: SpeechTokenizer, samples: Samples, sizes: list[int], mode: Mode
) -> tuple[list[Codes], list[TokenizerState]]:
    """Tokens of each push, and the state after each."""
    state = tokenizer.initial_state(mode=mode)
    tokens, states = [], []
    pieces = cut(len(samples), sizes)
    for index, piece in enumerate(pieces):
        new, state = tokenizer.push(samples[piece], state, final=index == len(pieces) - 1)
        tokens.append(new)
        states.append(state)
    return tokens, states


def test_both_codebooks_meet_in_whole_groups(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    tokens = golden_tokenizer.tokenize(voice, 16_000)
    assert (len(tokens.linguistic), len(tokens.semantic), len(tokens.interleaved)) == (56, 85, 140)
    assert {array.dtype for array in (tokens.linguistic, tokens.semantic, tokens.interleaved)} == {np.dtype(np.int64)}
    linguistic, semantic = deinterleave(tokens.interleaved)
    assert linguistic.tolist() == tokens.linguistic.tolist()
    assert semantic.tolist() == tokens.semantic[:84].tolist()


def test_trimming_is_an_option(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    padded = np.concatenate([np.zeros(32_000, np.float32), voice])
    assert len(golden_tokenizer.tokenize(padded, 16_000).semantic) == 135
    trimmed = golden_tokenizer.tokenize(padded, 16_000, trim=True)
    assert len(trimmed.semantic) == len(prepare(padded, 16_000, trim=True)) // 640 + 1


@settings(max_examples=15)
@given(length=st.integers(1, 53_920), sizes=st.lists(st.integers(200, 30_000), min_size=1, max_size=4))
def test_pushes_of_any_sizes_give_the_offline_tokens_in_whole_mode(
    golden_tokenizer: SpeechTokenizer, voice: Samples, length: int, sizes: list[int]
) -> None:
    prepared = prepare(voice[:length], 16_000, trim=False)
    streamed, _ = push_all(golden_tokenizer, prepared, sizes, "whole")
    offline = golden_tokenizer.tokenize(voice[:length], 16_000).interleaved
    assert np.concatenate(streamed).tolist() == offline.tolist()


@settings(max_examples=10)
@given(sizes=st.lists(st.integers(200, 30_000), min_size=1, max_size=4))
def test_pushes_of_any_sizes_give_the_same_tokens_in_segmented_mode_with_exact_linguistic_codes(
    golden_tokenizer: SpeechTokenizer, voice: Samples, sizes: list[int]
) -> None:
    prepared = prepare(voice, 16_000, trim=False)
    streamed = np.concatenate(push_all(golden_tokenizer, prepared, sizes, "segmented")[0])
    at_once = np.concatenate(push_all(golden_tokenizer, prepared, [len(prepared)], "segmented")[0])
    assert streamed.tolist() == at_once.tolist()
    offline = golden_tokenizer.tokenize(voice, 16_000)
    assert deinterleave(streamed)[0].tolist() == offline.linguistic.tolist()
    assert len(streamed) == len(offline.interleaved)


def test_segmented_tokens_come_while_the_user_speaks(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    tokens, _ = push_all(golden_tokenizer, voice, [3840], "segmented")
    before_the_end = sum(map(len, tokens[:-1]))
    assert before_the_end >= 5 * (53_920 - 720 * 16 - 3840) // 1920


@pytest.mark.parametrize("mode", ["whole", "segmented"])
def test_peeking_tells_what_ending_now_would_give(
    golden_tokenizer: SpeechTokenizer, voice: Samples, mode: Mode
) -> None:
    for length in (100, 5000, 20_000, 40_000):
        _, states = push_all(golden_tokenizer, np.append(voice[:length], voice[:1]), [length, 1], mode)
        peeked = golden_tokenizer.peek(states[0])
        ended, _ = push_all(golden_tokenizer, voice[:length], [length], mode)
        assert peeked.tolist() == np.concatenate(ended).tolist()


def test_peeking_does_not_disturb_the_stream(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    state = golden_tokenizer.initial_state()
    out = []
    for piece in cut(len(voice), [9000]):
        golden_tokenizer.peek(state)
        new, state = golden_tokenizer.push(voice[piece], state, final=False)
        out.append(new)
    out.append(golden_tokenizer.push(voice[:0], state, final=True)[0])
    straight, _ = push_all(golden_tokenizer, voice, [len(voice)], "whole")
    assert np.concatenate(out).tolist() == np.concatenate(straight).tolist()


def test_peeking_at_nothing_gives_nothing(golden_tokenizer: SpeechTokenizer) -> None:
    assert golden_tokenizer.peek(golden_tokenizer.initial_state()).shape == (0,)


def test_the_state_after_the_end_begins_a_new_utterance(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    first, states = push_all(golden_tokenizer, voice, [20_000], "segmented")
    again, _ = golden_tokenizer.push(voice, states[-1], final=True)
    assert again.tolist() == np.concatenate(first).tolist()


def test_an_unknown_mode_is_refused(golden_tokenizer: SpeechTokenizer) -> None:
    with pytest.raises(InvalidOptionError, match="whole, segmented"):
        golden_tokenizer.initial_state(mode="other")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("samples", [1, 160, 399, 479])
def test_audio_too_short_for_a_token_gives_empty_arrays(golden_tokenizer: SpeechTokenizer, samples: int) -> None:
    tokens = golden_tokenizer.tokenize(np.ones(samples, np.float32), 16_000)
    assert (len(tokens.linguistic), len(tokens.semantic), len(tokens.interleaved)) == (0, 0, 0)


def test_no_audio_is_refused(golden_tokenizer: SpeechTokenizer) -> None:
    with pytest.raises(EmptyAudioError):
        golden_tokenizer.tokenize(np.zeros(0, np.float32), 16_000)


def test_nan_is_refused_offline_and_streamed(golden_tokenizer: SpeechTokenizer) -> None:
    bad = np.full(4000, np.nan, np.float32)
    with pytest.raises(NonFiniteAudioError):
        golden_tokenizer.tokenize(bad, 16_000)
    with pytest.raises(NonFiniteAudioError):
        golden_tokenizer.push(bad, golden_tokenizer.initial_state(), final=False)


@pytest.mark.parametrize("trim", [False, True])
def test_silence_has_tokens_like_any_sound(golden_tokenizer: SpeechTokenizer, trim: bool) -> None:
    tokens = golden_tokenizer.tokenize(np.zeros(16_000, np.float32), 16_000, trim=trim)
    assert len(tokens.interleaved) >= 40


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_any_rate_is_taken_also_below_16_khz(golden_tokenizer: SpeechTokenizer, rate_hz: int) -> None:
    seconds = np.sin(np.arange(2 * rate_hz) * (2 * np.pi * 300 / rate_hz)).astype(np.float32)
    tokens = golden_tokenizer.tokenize(seconds, rate_hz)
    assert (len(tokens.linguistic), len(tokens.semantic)) == (33, 50)


@pytest.mark.parametrize("rate_hz", [0, -16_000])
def test_a_rate_of_nothing_is_refused(golden_tokenizer: SpeechTokenizer, rate_hz: int) -> None:
    with pytest.raises(InvalidOptionError):
        golden_tokenizer.tokenize(np.ones(16_000, np.float32), rate_hz)


def test_samples_that_may_not_be_written_to_are_taken(golden_tokenizer: SpeechTokenizer, voice: Samples) -> None:
    fixed = voice.copy()
    fixed.flags.writeable = False
    linguistic = golden_tokenizer.linguistic
    rows, _ = linguistic.encode(fixed, linguistic.initial_state(), final=True)
    assert len(rows) == 56
    assert len(golden_tokenizer.semantic.encode(fixed)) == 85
    assert len(golden_tokenizer.push(fixed, golden_tokenizer.initial_state(), final=True)[0]) == 140


def test_stereo_24_bit_and_torch_samples_give_the_tokens_of_the_plain_samples(
    golden_tokenizer: SpeechTokenizer, voice: Samples, tmp_path: Path
) -> None:
    plain = golden_tokenizer.tokenize(voice, 16_000).interleaved.tolist()
    assert golden_tokenizer.tokenize(np.stack([voice, voice]), 16_000).interleaved.tolist() == plain
    assert golden_tokenizer.tokenize(torch.from_numpy(voice), 16_000).interleaved.tolist() == plain
    sf.write(tmp_path / "a.wav", np.stack([voice, voice], axis=1), 16_000, subtype="PCM_24")
    audio = read_audio(tmp_path / "a.wav")
    assert golden_tokenizer.tokenize(audio.samples, audio.sample_rate_hz).interleaved.tolist() == plain


def test_a_stereo_file_at_48_khz_is_tokenized(golden_tokenizer: SpeechTokenizer) -> None:
    audio = read_audio(golden_file("wavs/stereo_48k.wav"))
    tokens = golden_tokenizer.tokenize(audio.samples, audio.sample_rate_hz)
    assert tokens.interleaved.tolist() == interleave(tokens.linguistic, tokens.semantic).tolist()
    assert len(tokens.interleaved) == 40
