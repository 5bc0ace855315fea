"""What the flow needs to know of a voice: the prompt clip's tokens, its mel, and a speaker embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.shared.errors import InvalidInputError

ArrayLike: TypeAlias = Tensor | NDArray[np.floating[Any]] | NDArray[np.integer[Any]] | Sequence[int]
"""What rooms may hand over as numbers (Any: of any width)."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceFeatures:
    """A voice as the flow reads it; numpy or torch arrays, made once per prompt clip.

    Attributes:
        tokens: [P] or [1, P] codec values of the prompt clip; P may be 0.
        mel: [1, M, 80] or [M, 80] log-mel of the same clip at the vocoder's rate; M may be 0 only together with P.
        embedding: [192] or [1, 192] speaker embedding, of any length (the flow normalises it).

    Source: the released prompt features (tts.py and the CosyVoice front end).
    """

    tokens: ArrayLike
    mel: ArrayLike
    embedding: ArrayLike

    def as_tensors(
        self, device: torch.device, *, speaker_size: int, mel_channels: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Checked tensors on `device`.

        Returns:
            tokens [P] int64, mel [1, M, C] float32, embedding [1, S] float32.

        Raises:
            InvalidInputError: a shape does not fit the checkpoint, a value is not finite, or only one of tokens and
                mel is empty.
        """
        tokens = torch.as_tensor(self.tokens).to(device=device, dtype=torch.int64).reshape(-1)
        mel = torch.as_tensor(self.mel).to(device=device, dtype=torch.float32)
        embedding = torch.as_tensor(self.embedding).to(device=device, dtype=torch.float32)
        mel = mel.unsqueeze(0) if mel.dim() == 2 else mel
        if mel.dim() != 3 or mel.shape[0] != 1 or mel.shape[2] != mel_channels:
            raise InvalidInputError(f"the voice's mel is {list(mel.shape)}, not [1, frames, {mel_channels}]")
        if embedding.numel() != speaker_size:
            raise InvalidInputError(f"the voice's embedding has {embedding.numel()} values, not {speaker_size}")
        if (len(tokens) == 0) != (mel.shape[1] == 0):
            raise InvalidInputError(
                f"the voice has {len(tokens)} tokens but {mel.shape[1]} mel frames; give both or neither"
            )
        if not (torch.isfinite(mel).all() and torch.isfinite(embedding).all()):
            raise InvalidInputError("the voice's mel or embedding holds NaN or infinity; compute its features again")
        return tokens, mel, embedding.reshape(1, speaker_size)
