"""Linguistic rows and codes against the recorded run, in one piece and in any others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.shared.audio.files import read_audio
from services.tokenizer import LinguisticEncoder, SpeechTokenizer, load_linguistic_encoder
from tests.conftest import golden_file, report
from tests.tokenizer.conftest import cut

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder(golden_tokenizer: SpeechTokenizer) -> LinguisticEncoder:
    return golden_tokenizer.linguistic


def recorded_summary() -> dict[str, Any]:  # parsed JSON
    summary: dict[str, Any] = json.loads(golden_file("lingtok/summary.json").read_text())
    return summary


def codes(encoder: LinguisticEncoder, samples: Samples) -> list[int]:
    rows, _ = encoder.encode(samples, encoder.initial_state(), final=True)
    result: list[int] = encoder.quantize(rows).tolist()
    return result


def codes_per_push(encoder: LinguisticEncoder, samples: Samples, sizes: list[int]) -> list[list[int]]:
    state = encoder.initial_state()
    per_push = []
    pieces = cut(len(samples), sizes)
    for index, piece in enumerate(pieces):
        rows, state = encoder.encode(samples[piece], state, final=index == len(pieces) - 1)
        per_push.append(encoder.quantize(rows).tolist())
    return per_push


@pytest.mark.golden
@pytest.mark.parametrize("clip", ["sweep_0p30", "burst_1p00", "voice_3p37", "voice_35p00"])
def test_rows_and_codes_equal_the_recorded_ones(encoder: LinguisticEncoder, clip: str) -> None:
    recorded = np.load(golden_file(f"lingtok/{clip}.npz"))
    samples = read_audio(golden_file(f"wavs/{clip}.wav")).samples
    rows, _ = encoder.encode(samples, encoder.initial_state(), final=True)
    report(f"{clip} encoder rows", rows, recorded["enc_out"], max_abs=5e-5)
    assert encoder.quantize(rows).tolist() == recorded["token_ids"].tolist()


@pytest.mark.golden
def test_codes_equal_the_recorded_ones_at_every_recorded_length(encoder: LinguisticEncoder, voice: Samples) -> None:
    cases = recorded_summary()["short"]
    assert {"3840", "7680", "4720"} & set(cases)
    for length, case in cases.items():
        assert codes(encoder, voice[: int(length)]) == case["ids"], f"{length} samples"


@pytest.mark.golden
def test_codes_of_each_push_equal_the_recorded_session(encoder: LinguisticEncoder) -> None:
    for name, case in recorded_summary()["stream"].items():
        clip = name.split("|")[0].removesuffix("[:15360]").removesuffix(".wav")
        samples = read_audio(golden_file(f"wavs/{clip}.wav")).samples
        samples = samples[:15_360] if "[:15360]" in name else samples
        per_push = codes_per_push(encoder, samples, case["push_sizes"])
        expected = case["per_push_token_ids"]
        assert [ids for ids in per_push if ids] == [ids for ids in expected if ids], name
        assert per_push == expected[: len(per_push)], name


@pytest.mark.golden
def test_a_session_that_does_not_end_keeps_its_rest(encoder: LinguisticEncoder, voice: Samples) -> None:
    case = recorded_summary()["nosession_nonfinal"]
    rows, state = encoder.encode(voice[: case["len"]], encoder.initial_state(), final=False)
    assert encoder.quantize(rows).tolist() == case["ids"]
    assert len(state.front_end.samples) == case["len"] % 3840 + 480


@pytest.mark.unit
@settings(max_examples=40)
@given(length=st.integers(0, 53_920), sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=6))
def test_pushes_of_any_sizes_give_the_offline_codes(
    encoder: LinguisticEncoder, voice: Samples, length: int, sizes: list[int]
) -> None:
    pushed = [code for push in codes_per_push(encoder, voice[:length], sizes) for code in push]
    assert pushed == codes(encoder, voice[:length])


@pytest.mark.unit
@settings(max_examples=15)
@given(
    at=st.integers(0, 30_000), seed=st.integers(0, 1000), sizes=st.lists(st.integers(100, 9000), min_size=1, max_size=3)
)
def test_later_samples_never_change_rows_already_out(
    encoder: LinguisticEncoder, voice: Samples, at: int, seed: int, sizes: list[int]
) -> None:
    other = np.concatenate([voice[:at], np.random.default_rng(seed).uniform(-1, 1, 9000).astype(np.float32)])
    first, state, out = [], encoder.initial_state(), torch.zeros(0)
    for piece in cut(at, sizes):
        out, state = encoder.encode(voice[piece], state, final=False)
        first.append(out)
    emitted = torch.cat(first)
    assert len(emitted) == at // 3840 * 4
    whole, _ = encoder.encode(other, encoder.initial_state(), final=True)
    assert torch.allclose(whole[: len(emitted)], emitted, atol=2e-5)


@pytest.mark.unit
def test_an_old_state_stays_usable(encoder: LinguisticEncoder, voice: Samples) -> None:
    _, state = encoder.encode(voice[:10_000], encoder.initial_state(), final=False)
    first, _ = encoder.encode(voice[10_000:20_000], state, final=True)
    encoder.encode(voice[:7000], state, final=False)
    second, _ = encoder.encode(voice[10_000:20_000], state, final=True)
    assert torch.equal(first, second)


@pytest.mark.unit
def test_the_state_after_the_end_begins_a_new_utterance(encoder: LinguisticEncoder, voice: Samples) -> None:
    _, state = encoder.encode(voice, encoder.initial_state(), final=True)
    rows, _ = encoder.encode(voice, state, final=True)
    assert encoder.quantize(rows).tolist() == codes(encoder, voice)


@pytest.mark.unit
def test_the_batches_that_bound_memory_change_nothing(
    encoder: LinguisticEncoder, voice: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = codes(encoder, voice)
    monkeypatch.setattr("services.tokenizer.paraformer.linguistic.BATCH_CHUNKS", 3)
    assert codes(encoder, voice) == at_once


@pytest.mark.unit
def test_the_release_without_its_flush_gives_the_same_codes(golden_folder: Path, voice: Samples) -> None:
    released = load_linguistic_encoder(golden_folder, released_quirks=True)
    ours = load_linguistic_encoder(golden_folder)
    for length in (3840, 15_360, 16_000, 4320):
        assert codes(released, voice[:length]) == codes(ours, voice[:length])


@pytest.mark.unit
def test_dither_is_off_unless_asked_for(golden_folder: Path, voice: Samples) -> None:
    noisy = load_linguistic_encoder(golden_folder, dither=1.0)
    quiet = load_linguistic_encoder(golden_folder)
    assert codes(noisy, voice) != codes(quiet, voice)
    assert codes(noisy, voice) == codes(noisy, voice)


@pytest.mark.unit
def test_it_runs_in_half_precision_when_asked(golden_folder: Path, voice: Samples) -> None:
    half = load_linguistic_encoder(golden_folder, dtype=torch.bfloat16)
    rows, _ = half.encode(voice, half.initial_state(), final=True)
    assert rows.dtype == torch.bfloat16
    same = np.mean(np.array(half.quantize(rows)) == np.array(codes(load_linguistic_encoder(golden_folder), voice)))
    assert same > 0.5
