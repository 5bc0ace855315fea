"""What both tokenizers are trained by: the phone of each half row, named by a linear head that is thrown away."""

from typing import Final

from torch import Tensor, nn

from services.nano.training.batches import CLASSES
from services.nano.training.loop import SCORE, Figures

LABELS_A_ROW: Final = 2


def phone_logits(head: nn.Module, rows: Tensor) -> Tensor:
    """The head's opinion: [B, R, D] -> [B, 2R, classes]."""
    out: Tensor = head(rows).unflatten(2, (LABELS_A_ROW, CLASSES)).flatten(1, 2)
    return out


def share_right(phones: Tensor, labels: Tensor) -> Figures:
    """Share of right labels, all and without silence.

    Args:
        phones: [B, 2R, classes] logits.
        labels: [B, 2R]; 0 is silence.
    """
    right, sounding = (phones.argmax(2) == labels).float(), labels > 0
    return {SCORE: float(right.mean()), "sounding": float(right[sounding].mean())}
