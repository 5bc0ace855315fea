"""Training of the linguistic encoder: the room's SAN-M, in its streaming form, against two phones a row of 60 ms.

Decides: sizes, loss, and how a batch runs through the room's layers. The batch is one line of windows, utterance after
utterance; each window's mask hides the memory of the utterance before, so every row is what streaming gives.
Refuses to know: codes. All in float32: the windows are so short that conversions would cost more than bfloat16 saves.
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
from services.nano.training.batches import CLASSES, HeardSpeech, label_matrix
from services.nano.training.loop import Figures
from services.shared.nn.features import FBANK_MELS
from services.tokenizer.paraformer.config import FEATURE_DIM, EncoderConfig
from services.tokenizer.paraformer.frontend import OnlineFrontEnd
from services.tokenizer.paraformer.sanm import MEMORY_ROWS, NEW_ROWS, OVERLAP_ROWS, Masks, SanmEncoder, SanmLayer

SIZES: Final = EncoderConfig(output_size=144, attention_heads=4, linear_units=512, num_blocks=5)
_LABEL_STEP_S: Final = 0.03
_NOISE: Final = 0.15
_SMOOTHING: Final = 0.05
_FRAME_WEIGHT: Final = 0.3
_STACK: Final = FEATURE_DIM // FBANK_MELS


class LinguisticTask:
    """See `services.nano.training.loop.Task`.

    Args:
        speech: batches.
        shift, scale: [560] the front end's normalisation.
        encoder: what to train.
        centroids: [K, D] to begin with where rows are to be learned as codes; None for rows as they are.
    """

    def __init__(
        self,
        speech: HeardSpeech,
        shift: Tensor,
        scale: Tensor,
        encoder: SanmEncoder | None = None,
        centroids: Tensor | None = None,
    ) -> None:
        self.encoder = encoder or SanmEncoder(SIZES)
        size = self.encoder.config.output_size
        self.quantiser = None if centroids is None else Quantiser(centroids)
        self.helpers: nn.Module = nn.ModuleDict(
            {
                **({"codes": self.quantiser} if self.quantiser else {}),
                "phones": nn.Linear(size, LABELS_A_ROW * CLASSES),
                "frame": nn.Linear(size, FBANK_MELS),
            }
        )
        self._speech = speech
        self._front_end = OnlineFrontEnd(shift, scale, dither=0.0, released_quirks=False)

    @property
    def network(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """Cross-entropy of the phones plus the error of the row's middle frame."""
        features, labels = self._batch(self._speech.draw(rng))
        rows = encode_packed(self.encoder, _mask_bands(features, rng))
        rows, pull = self.quantiser(rows) if self.quantiser else (rows, 0.0)
        phones = self._phones(rows if self.quantiser else rows + _NOISE * torch.randn_like(rows))
        middle = features.unflatten(2, (_STACK, FBANK_MELS))[:, :, _STACK // 2]
        spoken = F.cross_entropy(phones.flatten(0, 1), labels.flatten(), label_smoothing=_SMOOTHING)
        frame = F.mse_loss(self.helpers.get_submodule("frame")(rows), middle)
        accuracy = (phones.argmax(2) == labels).float().mean()
        return spoken + _FRAME_WEIGHT * frame + pull, {
            "phones": spoken.item(),
            "frame": frame.item(),
            "right": float(accuracy),
        }

    def judge(self) -> Figures:
        """Share of right labels on held-out clips, all and without silence."""
        features, labels = self._batch(self._speech.judged)
        rows = encode_packed(self.encoder, features)
        return share_right(self._phones(self.quantiser(rows)[0] if self.quantiser else rows), labels)

    def _phones(self, rows: Tensor) -> Tensor:
        """[B, R, D] -> [B, 2R, classes]."""
        return phone_logits(self.helpers.get_submodule("phones"), rows)

    def _batch(self, batch: Sequence[Heard]) -> tuple[Tensor, Tensor]:
        """Features [B, R, 560] and labels [B, 2R], R a multiple of 4."""
        rows = [features_of(self._front_end, heard) for heard in batch]
        features = torch.stack(rows)[:, : len(rows[0]) // NEW_ROWS * NEW_ROWS]
        labels = label_matrix(batch, LABELS_A_ROW * features.shape[1], _LABEL_STEP_S, _LABEL_STEP_S / 2)
        return features, torch.from_numpy(labels)


@torch.no_grad()
def features_of(front_end: OnlineFrontEnd, heard: Heard) -> Tensor:
    """[R, 560] rows of a clip."""
    return front_end.push(torch.from_numpy(heard.samples), front_end.initial_state(), final=True)[0]


def normalisation(batches: Sequence[Heard]) -> tuple[Tensor, Tensor]:
    """Shift and scale [560] that bring every mel bin to mean 0 and variance 1, the same in all seven frames."""
    plain = OnlineFrontEnd(torch.zeros(FEATURE_DIM), torch.ones(FEATURE_DIM), dither=0.0, released_quirks=False)
    frames = torch.cat([features_of(plain, heard) for heard in batches]).reshape(-1, FBANK_MELS)
    deviation, mean = torch.std_mean(frames, dim=0)
    return (-mean).repeat(_STACK), (1.0 / deviation).repeat(_STACK)


def encode_packed(encoder: SanmEncoder, features: Tensor) -> Tensor:
    """Run several utterances of one length through the encoder's own layers; [B, R, 560] -> [B, R, D], R % 4 == 0."""
    B, R, _ = features.shape
    positions = encoder._with_position(torch.zeros(R, FEATURE_DIM), 0)
    rows = F.pad(features * encoder.config.output_size**0.5 + positions, (0, 0, OVERLAP_ROWS, 0))
    windows = rows.unfold(1, OVERLAP_ROWS + NEW_ROWS, NEW_ROWS).transpose(2, 3)  # [B, R / 4, 9, 560]
    count = windows.shape[1]
    first_key = (MEMORY_ROWS - NEW_ROWS * torch.arange(count)).clamp(min=0)
    visible = torch.arange(MEMORY_ROWS + OVERLAP_ROWS + NEW_ROWS) >= first_key[:, None]
    x, mask = windows.flatten(0, 1), visible.repeat(B, 1)[:, None, None]
    past = torch.zeros(MEMORY_ROWS, 2 * encoder.config.output_size)
    masks = Masks(mask, torch.ones(*x.shape[:2], 1))
    for layer in (*encoder.encoders0, *encoder.encoders):
        assert isinstance(layer, SanmLayer)
        x, _ = layer(x, past.to(x.dtype), masks)
    encoded: Tensor = encoder.after_norm(x[:, OVERLAP_ROWS:])
    return encoded.reshape(B, R, -1)


def _mask_bands(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Hide a band of up to 12 mel bins in half of the clips."""
    stacked = features.clone().unflatten(2, (_STACK, FBANK_MELS))
    for clip in stacked:
        if rng.random() < 0.5:
            width = int(rng.integers(1, 13))
            low = int(rng.integers(0, FBANK_MELS - width))
            clip[..., low : low + width] = 0.0
    out: Tensor = stacked.flatten(2)
    return out
