"""Recorded cases of the vocoder and the two small checkpoints the tests run on."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.shared import paths
from services.shared.audio.files import Audio, read_audio
from services.shared.voices import VoiceRegistry
from services.tokenizer import load_speech_tokenizer
from services.vocoder import Vocoder, VoiceFeatures, load_vocoder
from tests.conftest import DATA, NANO, ROOT, golden_file

GOLDEN_FOLDER = DATA / "golden" / "tok2wav"
NANO_FOLDER = NANO / paths.TTS_FOLDER / paths.VOCODER_FOLDER
QUESTIONS = ROOT / "benchmarks" / "data" / "nano_questions" / "wav"
CASES = ("a_prompt", "b_noprompt", "c_odd_neg", "d_long", "e_short")

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded case: its arrays, and the noises that its seeds give."""

    arrays: dict[str, Array]
    start_noise: Array
    source_noise: Array

    @property
    def voice(self) -> VoiceFeatures:
        return VoiceFeatures(self.arrays["in_prompt_token"], self.arrays["in_prompt_feat"], self.arrays["in_embedding"])


@lru_cache(maxsize=8)
def recorded(name: str) -> Case:
    with np.load(golden_file(f"tok2wav/{name}.npz")) as archive:
        arrays = dict(archive)
    meta = json.loads(Path(golden_file("tok2wav/cases.json")).read_text())[name]["meta"]
    return Case(arrays, _noise(meta["z_seed"], meta["z_shape"]), _noise(meta["noise_seed"], meta["noise_shape"]))


@lru_cache(maxsize=1)
def nano() -> Vocoder:
    return load_vocoder(NANO_FOLDER)


def nano_tokens(groups: int, seed: int = 0) -> NDArray[np.int64]:
    """Tokens in the checkpoint's own pattern: two linguistic codes, three semantic ones by phase."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 512, (groups, 5)) + np.array([0, 512, 1024, 2048, 3072])
    tokens: NDArray[np.int64] = codes.reshape(-1).astype(np.int64)
    return tokens


@lru_cache(maxsize=1)
def nano_voice() -> VoiceFeatures:
    random = np.random.default_rng(7)
    mel = (random.standard_normal((1, 52, 80)) - 5).astype(np.float32)
    return VoiceFeatures(nano_tokens(5, seed=9), mel, random.standard_normal(192).astype(np.float32))


@lru_cache(maxsize=1)
def spoken() -> tuple[NDArray[np.int64], VoiceFeatures]:
    """Codes of three recorded questions, one behind the other, and the checkpoint's first voice."""
    tokenizer = load_speech_tokenizer(NANO / paths.TOKENIZER_FOLDER)

    def codes(audio: Audio) -> NDArray[np.int64]:
        return tokenizer.tokenize(audio.samples, audio.sample_rate_hz).interleaved

    questions = [read_audio(QUESTIONS / f"demo_{number:02}.wav") for number in (0, 2, 9)]
    voice = VoiceRegistry.load(NANO / paths.TTS_FOLDER).get("Nano").audio()
    features = nano().voice_features(voice.samples, voice.sample_rate_hz, codes(voice))
    return np.concatenate([codes(question) for question in questions]), features


def _noise(seed: int, shape: list[int]) -> Array:
    flat = np.random.RandomState(seed).standard_normal(int(np.prod(shape)))
    return flat.astype(np.float32).reshape(shape)
