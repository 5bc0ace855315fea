"""Batches of heard speech for the tokenizers: every clip of a batch has one length, so no padding exists.

Decides: which kinds are drawn how often, and the lengths. Refuses to know: features and networks.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.phones import LABELS
from services.nano.plan import Kind
from services.nano.training.augment import Heard, hear
from services.nano.training.draws import one_of
from services.nano.training.recorded import RATE_HZ, Clip
from services.shared.errors import MissingFileError

CLASSES: Final = len(LABELS)
_SHARES: Final[dict[Kind, float]] = {"assistant": 0.3, "user": 0.35, "espeak": 0.25, "everyday": 0.1}
_CLEAN_SHARE: Final[dict[Kind, float]] = {"assistant": 0.6, "everyday": 0.6}
_LENGTHS_S: Final = (1.92, 2.88, 4.8)
BATCH_S: Final = 48.0
"""Seconds of audio a batch."""
_JUDGED_LENGTH_S: Final = 2.88
_JUDGED_CLIPS: Final = 64


class HeardSpeech:
    """Training and judging batches of a set of clips.

    Args:
        clips: of any kind; those that are judged are never drawn for training.

    Raises:
        MissingFileError: there is nothing to learn from.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._of_kind = {
            kind: [clip for clip in clips if clip.recording.kind == kind and not clip.is_judged] for kind in _SHARES
        }
        self._kinds = [kind for kind, members in self._of_kind.items() if members]
        if not self._kinds:
            raise MissingFileError("no recorded speech to learn from; run the stage `speech`")
        shares = np.array([_SHARES[kind] for kind in self._kinds])
        self._shares = shares / shares.sum()
        judged = sorted((clip for clip in clips if clip.is_judged), key=lambda clip: clip.recording.identity)
        judged = judged or self._of_kind[self._kinds[0]]  # in a folder so small that nothing is held out
        rng = np.random.default_rng(0)
        length = round(_JUDGED_LENGTH_S * RATE_HZ)
        self.judged = [hear(clip, length, rng, clean=True) for clip in judged[:_JUDGED_CLIPS]]

    def draw(self, rng: np.random.Generator) -> list[Heard]:
        """One batch of about `BATCH_S` seconds."""
        length_s = float(rng.choice(_LENGTHS_S))
        return [self._one(round(length_s * RATE_HZ), rng) for _ in range(round(BATCH_S / length_s))]

    def _one(self, length: int, rng: np.random.Generator) -> Heard:
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._shares))]
        clip = one_of(self._of_kind[kind], rng)
        return hear(clip, length, rng, clean=rng.random() < _CLEAN_SHARE.get(kind, 0.0))


def label_matrix(batch: Sequence[Heard], count: int, step_s: float, first_s: float) -> NDArray[np.int64]:
    """[B, count] phone classes of a batch: see `Heard.labels`."""
    return np.stack([heard.labels(count, step_s, first_s) for heard in batch])
