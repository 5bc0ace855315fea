"""Tokenizers to test: the recorded weights laid out like the public download, and the nano checkpoint."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.shared.audio.files import read_audio
from services.shared.paths import CENTROIDS_FILE, PARAFORMER_FOLDER, SEMANTIC_ONNX_FILE, TOKENIZER_FOLDER
from services.tokenizer import SpeechTokenizer, load_speech_tokenizer
from tests.conftest import NANO, golden_file


def lay_out(folder: Path) -> Path:
    """Copy the recorded tokenizer into `folder` under the names of the public download; the copies may be damaged."""
    shutil.copytree(golden_file("lingtok/paraformer"), folder / PARAFORMER_FOLDER)
    shutil.copy(golden_file("lingtok/linguistic_tokenizer.npy"), folder / CENTROIDS_FILE)
    shutil.copy(golden_file("preproc/vq06_stub.onnx"), folder / SEMANTIC_ONNX_FILE)
    return folder


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Step-Audio-Tokenizer folder with the recorded weights; not to be written to."""
    return lay_out(tmp_path_factory.mktemp(TOKENIZER_FOLDER))


@pytest.fixture(scope="session")
def golden_tokenizer(golden_folder: Path) -> SpeechTokenizer:
    """The tokenizer of the recorded weights."""
    return load_speech_tokenizer(golden_folder)


@pytest.fixture(scope="session")
def nano_tokenizer() -> SpeechTokenizer:
    """The tokenizer of the nano checkpoint."""
    return load_speech_tokenizer(NANO / TOKENIZER_FOLDER)


@pytest.fixture(scope="session")
def voice() -> NDArray[np.float32]:
    """3.37 s of a recorded test signal at 16 kHz."""
    return read_audio(golden_file("wavs/voice_3p37.wav")).samples


def cut(length: int, sizes: list[int]) -> list[slice]:
    """Cut 0..length into pieces whose sizes repeat `sizes`."""
    pieces: list[slice] = []
    start = turn = 0
    while start < length or not pieces:
        size = sizes[turn % len(sizes)]
        pieces.append(slice(start, min(start + size, length)))
        start, turn = start + size, turn + 1
    return pieces
