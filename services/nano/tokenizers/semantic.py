"""The semantic encoder: a small convolutional network over Whisper's log-mel, one row every 40 ms, and its training.

    log-mel [128, T] -> conv /2 -> conv /2 -> 5 blocks (depthwise 7, LayerNorm, MLP) -> LayerNorm -> Linear -> tanh [24]

The room runs an ONNX file; this is the network that `onnx_file` writes into one. Decides: sizes and loss (two phones a
row, and the row's coarse spectrum, so that what is not phones survives). Refuses to know: codes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.nano.tokenizers.phones import LABELS_A_ROW, phone_logits, share_right
from services.nano.tokenizers.quantiser import Quantiser
from services.nano.training.augment import Heard
from services.nano.training.autograd import half_precision
from services.nano.training.batches import CLASSES, HeardSpeech, label_matrix
from services.nano.training.loop import Figures
from services.shared.nn.features import WHISPER_MELS, whisper_log_mel

CHANNELS: Final = 144
BLOCKS: Final = 5
ROW_SIZE: Final = 24
_KERNEL: Final = 7
_LABEL_STEP_S: Final = 0.02
_NOISE: Final = 0.15
_SMOOTHING: Final = 0.05
_SPECTRUM_WEIGHT: Final = 2.0
_BANDS: Final = 32
_HEAD: Final = 192
_FRAMES_A_ROW: Final = 4


class SemanticBlock(nn.Module):
    """Depthwise convolution, norm over channels, two-layer perceptron, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        rows = self.norm(self.depthwise(x).transpose(1, 2))
        out: Tensor = x + self.narrow(F.gelu(self.widen(rows))).transpose(1, 2)
        return out


class SemanticNetwork(nn.Module):
    """See the module; `forward` gives the rows before they become codes."""

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(WHISPER_MELS, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(SemanticBlock(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, ROW_SIZE)

    def forward(self, log_mel: Tensor) -> Tensor:
        """[B, 128, T] -> [B, about T / 4, 24] within -1..1."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(log_mel))))
        for block in self.blocks:
            x = block(x)
        rows: Tensor = torch.tanh(self.project(self.norm(x.transpose(1, 2))))
        return rows


class SemanticTask:
    """See `services.nano.training.loop.Task`.

    Args:
        speech: batches.
        network: what to train.
        centroids: [K, 24] to begin with where rows are to be learned as codes; None for rows as they are.
    """

    def __init__(
        self, speech: HeardSpeech, network: SemanticNetwork | None = None, centroids: Tensor | None = None
    ) -> None:
        self.encoder = network or SemanticNetwork()
        self.quantiser = None if centroids is None else Quantiser(centroids)
        self.helpers: nn.Module = nn.ModuleDict(
            {
                **({"codes": self.quantiser} if self.quantiser else {}),
                "phones": nn.Sequential(
                    nn.Linear(ROW_SIZE, _HEAD), nn.GELU(), nn.Linear(_HEAD, LABELS_A_ROW * CLASSES)
                ),
                "spectrum": nn.Sequential(nn.Linear(ROW_SIZE, _HEAD), nn.GELU(), nn.Linear(_HEAD, _BANDS)),
            }
        )
        self._speech = speech

    @property
    def network(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """Cross-entropy of the phones plus the error of the spectrum in 32 bands."""
        log_mel, labels = _batch(self._speech.draw(rng))
        with half_precision():
            rows = self.encoder(log_mel).float()
        rows, pull = self.quantiser(rows) if self.quantiser else (rows + _NOISE * torch.randn_like(rows), 0.0)
        phones = self._phones(rows)
        spoken = F.cross_entropy(phones.flatten(0, 1), labels.flatten(), label_smoothing=_SMOOTHING)
        bands = F.avg_pool2d(log_mel[:, None], (WHISPER_MELS // _BANDS, _FRAMES_A_ROW))[:, 0].transpose(1, 2)
        spectrum = F.mse_loss(self.helpers.get_submodule("spectrum")(rows), bands)
        accuracy = (phones.argmax(2) == labels).float().mean()
        figures = {"phones": spoken.item(), "spectrum": spectrum.item(), "right": float(accuracy)}
        return spoken + _SPECTRUM_WEIGHT * spectrum + pull, figures

    def judge(self) -> Figures:
        """Share of right labels on held-out clips, all and without silence."""
        log_mel, labels = _batch(self._speech.judged)
        rows = self.encoder(log_mel)
        return share_right(self._phones(self.quantiser(rows)[0] if self.quantiser else rows), labels)

    def _phones(self, rows: Tensor) -> Tensor:
        """[B, R, 24] -> [B, 2R, classes]."""
        return phone_logits(self.helpers.get_submodule("phones"), rows)


def _batch(batch: Sequence[Heard]) -> tuple[Tensor, Tensor]:
    """Log-mel [B, 128, 4R] and labels [B, 2R]."""
    log_mel = torch.stack([whisper_log_mel(torch.from_numpy(heard.samples)) for heard in batch])
    count = LABELS_A_ROW * (log_mel.shape[2] // _FRAMES_A_ROW)
    return log_mel, torch.from_numpy(label_matrix(batch, count, _LABEL_STEP_S, _LABEL_STEP_S / 2))
