"""The speaker encoder: filter banks to 192 numbers in which one voice lies near itself; its training and its file.

    fbank [T, 80] -> 3 convolutions -> mean and spread over time -> Linear [192]

Learned by telling all recorded voices apart; a mix of two voices is half of each. Decides: sizes and loss.
Refuses to know: what the flow makes of the numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from services.nano.training.augment import disturb, hear
from services.nano.training.draws import one_of
from services.nano.training.loop import SCORE, Figures
from services.nano.training.onnx_graph import OnnxGraph
from services.nano.training.recorded import RATE_HZ, Clip
from services.shared.nn.features import FBANK_MELS
from services.vocoder.speaker.embedding import speaker_features

EMBEDDING: Final = 192
_CHANNELS: Final = (96, 128, 128)
_BATCH: Final = 48
_SECONDS: Final = (1.0, 2.2)
_SHARPNESS: Final = 16.0
_CLEAN_SHARE: Final = 0.7
_JUDGED: Final = 120
_EPSILON: Final = 1e-4


class SpeakerNetwork(nn.Module):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (FBANK_MELS, *_CHANNELS[:-1])
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride=2, padding=2) for before, after in zip(inputs, _CHANNELS, strict=True)
        )
        self.project = nn.Linear(2 * _CHANNELS[-1], EMBEDDING)

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, 80] -> [B, 192]."""
        x = features.transpose(1, 2)
        for conv in self.convs:
            x = F.relu(conv(x))
        mean = x.mean(2)
        spread = ((x - mean[:, :, None]).square().mean(2) + _EPSILON).sqrt()
        out: Tensor = self.project(torch.cat([mean, spread], dim=1))
        return out


class SpeakerTask:
    """See `services.nano.training.loop.Task`.

    Args:
        clips: of all voices; those that are judged are not trained on.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.encoder = SpeakerNetwork()
        self._training = [clip for clip in clips if not clip.is_judged]
        names = sorted({name for clip in self._training for name, _ in clip.recording.voices})
        self._place = {name: place for place, name in enumerate(names)}
        self._by_voice: dict[str, list[Clip]] = {name: [] for name in names}
        for clip in self._training:
            self._by_voice[clip.recording.voices[0][0]].append(clip)
        self._by_voice = {name: own for name, own in self._by_voice.items() if own}
        self._judged = [c for c in clips if c.is_judged and c.recording.voices[0][0] in self._place][:_JUDGED]
        self.helpers: nn.Module = nn.ModuleDict({"voices": nn.Linear(EMBEDDING, len(names), bias=False)})

    @property
    def network(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """Cross-entropy of the voices, all equally often."""
        length = round(float(rng.uniform(*_SECONDS)) * RATE_HZ)
        names = list(self._by_voice)
        features, targets = [], torch.zeros(_BATCH, len(self._place))
        for row in range(_BATCH):
            clip = one_of(self._by_voice[one_of(names, rng)], rng)
            samples = hear(clip, length, rng, clean=True).samples
            samples = samples if rng.random() < _CLEAN_SHARE else disturb(samples, rng)
            features.append(torch.from_numpy(speaker_features(samples)))
            for name, weight in clip.recording.voices:
                targets[row, self._place[name]] += weight
        logits = self._logits(self.encoder(torch.stack(features)))
        loss = F.cross_entropy(logits, targets)
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        return loss, {"right": float(right)}

    def judge(self) -> Figures:
        """Share of held-out clips whose strongest voice is found."""
        right = 0
        for clip in self._judged:
            features = torch.from_numpy(speaker_features(clip.samples))[None]
            found = int(self._logits(self.encoder(features)).argmax())
            right += found == self._place[max(clip.recording.voices, key=lambda voice: voice[1])[0]]
        return {SCORE: right / max(len(self._judged), 1)}

    def _logits(self, embeddings: Tensor) -> Tensor:
        """[B, 192] -> [B, voices] scaled cosines."""
        voices = self.helpers.get_submodule("voices").get_parameter("weight")
        return _SHARPNESS * F.normalize(embeddings, dim=1) @ F.normalize(voices, dim=1).T


def write_onnx(network: SpeakerNetwork, path: Path) -> None:
    """Write the file: input [1, T, 80], output [1, 192]."""
    graph = OnnxGraph()
    x = graph.swap("input")
    for conv in network.convs:
        assert isinstance(conv, nn.Conv1d)
        x = graph.add("Relu", graph.conv(x, conv))
    mean = graph.add("ReduceMean", x, axes=[2], keepdims=1)
    distance = graph.add("Sub", x, mean)
    variance = graph.add("ReduceMean", graph.add("Mul", distance, distance), axes=[2], keepdims=1)
    spread = graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.array(_EPSILON, np.float32))))
    pooled = graph.add("Flatten", graph.add("Concat", mean, spread, axis=1), axis=1)
    product = graph.add("MatMul", pooled, graph.weight(network.project.weight.T))
    graph.add("Add", product, graph.weight(network.project.bias), output="output")
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "T", FBANK_MELS])
    target = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, EMBEDDING])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph.model("nano_speaker", [source], [target]), str(path))
