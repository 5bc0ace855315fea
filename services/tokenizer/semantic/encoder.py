"""The S3 speech tokenizer as an ONNX file: up to 30 s of samples in, one code every 40 ms out.

The file is used by position: input 0 is a log-mel [1, 128, T], input 1 its length [1], output 0 the codes. Decides
which pieces are too short to have codes; when the network runs, and on what, is for the streams to say.
Source: `get_vq06_code` of the release.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.codec.codebooks import SEMANTIC_SIZE
from services.shared.errors import CheckpointError, ShapeMismatchError
from services.shared.nn.features import WHISPER_MELS, whisper_log_mel
from services.shared.nn.onnx import open_session
from services.shared.paths import SEMANTIC_ONNX_FILE

PIECE_SAMPLES: Final = 480_000
"""The network takes at most 30 s."""
SHORTEST_SAMPLES: Final = 480
CODE_SAMPLES: Final = 640
"""40 ms of 16 kHz samples for each code."""

_COUNT_TOLERANCE: Final = 2
_INTEGER_INPUTS: Final = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}


class SemanticEncoder:
    """One ONNX network; stateless.

    Args:
        session: an `onnxruntime.InferenceSession` of the expected form.
        source: its file, for messages.

    Raises:
        ShapeMismatchError: the file's inputs or outputs are not those of a speech tokenizer.
    """

    def __init__(self, session: Any, source: Path) -> None:  # onnxruntime publishes no types
        self._session = session
        self._source = source
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if not _is_speech_tokenizer(inputs, outputs):
            raise ShapeMismatchError(
                f"{source} is another network: a speech tokenizer takes features [1, {WHISPER_MELS}, any] and an "
                "integer length, and gives integer codes; use the file of the public checkpoint"
            )
        self._names = inputs[0].name, inputs[1].name
        self._length_type = _INTEGER_INPUTS[inputs[1].type]

    def encode(self, samples_16k: Samples) -> NDArray[np.int64]:
        """Codes of an utterance of any length, cut into pieces of 30 s that know nothing of each other.

        Args:
            samples_16k: [N] float32 at 16 kHz.

        Returns:
            [about N / 640] codes 0..4095; a piece shorter than 480 samples has none.

        Raises:
            CheckpointError: the network's answer is no code sequence of this length.
        """
        pieces = [samples_16k[start : start + PIECE_SAMPLES] for start in range(0, len(samples_16k), PIECE_SAMPLES)]
        return np.concatenate([np.zeros(0, np.int64), *(self.encode_piece(piece) for piece in pieces)])

    def encode_piece(self, samples_16k: Samples) -> NDArray[np.int64]:
        """Codes of at most 30 s of samples; none below 480 samples.

        Raises:
            CheckpointError: as `encode`.
        """
        if len(samples_16k) < SHORTEST_SAMPLES:
            return np.zeros(0, np.int64)
        with torch.inference_mode():
            features = whisper_log_mel(torch.tensor(samples_16k)).unsqueeze(0).numpy()
        length = np.array([features.shape[2]], self._length_type)
        answer = self._session.run(None, {self._names[0]: features, self._names[1]: length})[0]
        codes = np.asarray(answer).reshape(-1).astype(np.int64)
        expected = len(samples_16k) / CODE_SAMPLES
        if abs(len(codes) - expected) > _COUNT_TOLERANCE or codes.min() < 0 or codes.max() >= SEMANTIC_SIZE:
            raise CheckpointError(
                f"{self._source} answered {len(codes)} codes for {len(samples_16k)} samples where about {expected:.0f} "
                f"of 0..{SEMANTIC_SIZE - 1} were due; use the tokenizer of the public checkpoint"
            )
        return codes


def load_semantic_encoder(folder: str | Path, *, threads: int = 1) -> SemanticEncoder:
    """Load the semantic half of a Step-Audio-Tokenizer folder on the CPU.

    Args:
        folder: the public layout, see `services.shared.paths`.
        threads: threads of the ONNX session.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError.
    """
    path = Path(folder) / SEMANTIC_ONNX_FILE
    return SemanticEncoder(open_session(path, threads=threads), path)


def _is_speech_tokenizer(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:  # onnxruntime publishes no types
    """Whether inputs and outputs are those of the S3 tokenizer; a dimension that may vary is no integer."""
    if len(inputs) != 2 or not outputs or len(inputs[0].shape) != 3:
        return False
    _, mels, frames = inputs[0].shape
    takes_features = (mels == WHISPER_MELS or not isinstance(mels, int)) and not isinstance(frames, int)
    return takes_features and inputs[1].type in _INTEGER_INPUTS and "int" in outputs[0].type
