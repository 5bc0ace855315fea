"""Speaker embedding of a prompt clip by the folder's own ONNX network (CAM++).

Features are Kaldi's filter banks of the samples as they are, minus their mean over time. The network's input and output
are taken by position: their names differ between exports.

Source: the speaker embedding of the released CosyVoice front end (CAM++).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.shared.errors import CorruptFileError, EmptyAudioError
from services.shared.nn.features import kaldi_fbank
from services.shared.nn.onnx import open_session
from services.vocoder.config import SPEAKER_FILE

_MIN_SAMPLES = 560
"""Two frames of 25 ms: with one, subtracting the mean leaves nothing."""


class SpeakerEncoder:
    """Samples to embedding. Build it with `load_speaker`."""

    def __init__(self, session: Any, path: Path) -> None:  # onnxruntime has no types
        self._session = session
        self._path = path
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name

    def embed(self, samples_16k: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed a clip.

        Args:
            samples_16k: [N] mono samples at 16 kHz, neither trimmed nor normalised.

        Returns:
            [S] float32, not normalised (the flow does that).

        Raises:
            EmptyAudioError: shorter than two analysis frames (35 ms).
            CorruptFileError: the network does not take such features.
        """
        features = speaker_features(samples_16k)
        try:
            output = self._session.run([self._output], {self._input: features[None]})[0]
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise CorruptFileError(f"{self._path} does not take [1, frames, 80] features; download it again") from error
        return np.asarray(output, dtype=np.float32).reshape(-1)


def speaker_features(samples_16k: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network's input; [N] samples at 16 kHz -> [T, 80]. Raises EmptyAudioError as `embed`."""
    if len(samples_16k) < _MIN_SAMPLES:
        raise EmptyAudioError(f"a voice's clip needs at least {_MIN_SAMPLES} samples at 16 kHz, not {len(samples_16k)}")
    features = kaldi_fbank(torch.as_tensor(samples_16k), window="povey")
    features = features - features.mean(dim=0, keepdim=True)
    return features.numpy()


def load_speaker(folder: str | Path, *, threads: int = 1) -> SpeakerEncoder:
    """Open `campplus.onnx` of a vocoder folder; `threads` is the size of its own pool.

    Raises:
        MissingFileError, CorruptFileError: the file cannot be used.
    """
    path = Path(folder) / SPEAKER_FILE
    return SpeakerEncoder(open_session(path, threads=threads), path)
