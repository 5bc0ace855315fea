"""Voice features: the speaker network's input, the prompt mel, and clips that cannot be used."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from services.shared.audio.files import read_audio
from services.shared.errors import CorruptFileError, EmptyAudioError, NonFiniteAudioError
from services.vocoder.speaker import load_speaker
from services.vocoder.speaker.embedding import speaker_features
from tests.conftest import golden_file, report
from tests.vocoder.cases import NANO_FOLDER, nano, nano_tokens


@pytest.mark.golden
def test_features_equal_the_release() -> None:
    """Held to the recording's bound for low-energy bins: its sweep is recorded by another fbank with 1.4e-2."""
    with np.load(golden_file("campplus/io.npz")) as archive:
        names = [name.removesuffix("_fbank") for name in archive if name.endswith("_fbank")]
        assert names
        for name in names:
            audio = read_audio(golden_file(f"wavs/{name}.wav"))
            report(f"{name} speaker features", speaker_features(audio.samples), archive[f"{name}_fbank"], max_abs=2e-2)


@pytest.mark.unit
def test_a_clip_of_any_rate_and_channel_count_becomes_features() -> None:
    clip = np.random.default_rng(0).standard_normal((2, 44100)).astype(np.float32) * 0.1
    voice = nano().voice_features(clip, 44100, nano_tokens(5))
    assert np.asarray(voice.mel).shape == (1, 22050 // 256, 80)
    assert np.asarray(voice.embedding).shape == (192,)
    mono = nano().voice_features(clip.mean(axis=0), 44100, nano_tokens(5))
    assert np.allclose(np.asarray(mono.mel), np.asarray(voice.mel), atol=1e-4)
    wave = nano().wave(nano_tokens(2), voice, seed=0)
    assert len(wave) == nano().flow.frame_count(10) * 256


@pytest.mark.unit
def test_the_same_seed_gives_the_same_wave_and_another_another() -> None:
    clip = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1
    voice = nano().voice_features(clip, 16000, nano_tokens(2))
    first, again, other = (nano().wave(nano_tokens(3), voice, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.unit
@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_clip_that_is_too_short_is_refused(count: int) -> None:
    with pytest.raises(EmptyAudioError):
        nano().voice_features(np.zeros(count, np.float32), 16000, nano_tokens(2))


@pytest.mark.unit
def test_a_clip_with_nan_is_refused() -> None:
    with pytest.raises(NonFiniteAudioError):
        nano().voice_features(np.full(16000, np.nan, np.float32), 16000, nano_tokens(2))


@pytest.mark.unit
def test_a_network_of_another_kind_is_named(tmp_path: Path) -> None:
    graph = onnx.load(NANO_FOLDER / "campplus.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 81
    onnx.save(graph, tmp_path / "campplus.onnx")
    with pytest.raises(CorruptFileError, match=r"campplus\.onnx"):
        load_speaker(tmp_path).embed(np.zeros(16000, np.float32))
