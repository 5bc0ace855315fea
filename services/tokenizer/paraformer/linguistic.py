"""The linguistic encoder: 16 kHz samples in, one 512-dim row and one code every 60 ms out, streamed or whole.

Causal: a row never changes once it is out, and depends on no sample later than its own chunk of 240 ms. Cutting the
input in other pieces changes nothing (in floating point: nothing but the last digits of the rows). The state is a
value: the encoder keeps none, and an old state stays usable.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.shared.paths import CENTROIDS_FILE, PARAFORMER_FOLDER
from services.tokenizer.paraformer.config import read_cmvn, read_folder
from services.tokenizer.paraformer.frontend import CHUNK_SAMPLES, FrontEndState, OnlineFrontEnd
from services.tokenizer.paraformer.quantizer import KMeansQuantizer, load_centroids
from services.tokenizer.paraformer.sanm import EncoderState, SanmEncoder

BATCH_CHUNKS: Final = 64
"""Chunks encoded at once: enough for full-speed matrix products, and the memory of long audio stays flat."""
_KEY_PREFIX: Final = "encoder."


@dataclass(frozen=True, slots=True)
class LinguisticState:
    """Everything the encoder remembers of an utterance."""

    front_end: FrontEndState
    encoder: EncoderState


class LinguisticEncoder:
    """Front end, SAN-M encoder and quantizer of one checkpoint.

    Args:
        front_end: samples to features, on the encoder's device.
        encoder: the network, in evaluation mode.
        quantizer: rows to codes.
    """

    def __init__(self, front_end: OnlineFrontEnd, encoder: SanmEncoder, quantizer: KMeansQuantizer) -> None:
        self.front_end = front_end
        self.encoder = encoder
        self.quantizer = quantizer

    def initial_state(self) -> LinguisticState:
        """The state before the first sample of an utterance."""
        return LinguisticState(self.front_end.initial_state(), self.encoder.initial_state())

    @torch.inference_mode()
    def encode(self, samples_16k: ArrayLike, state: LinguisticState, *, final: bool) -> tuple[Tensor, LinguisticState]:
        """Encode what these samples complete.

        Args:
            samples_16k: [N] float32 in [-1, 1] at 16 kHz, numpy or torch, N >= 0.
            state: from `initial_state` or the call before; it is not changed.
            final: the utterance ends with these samples.

        Returns:
            (rows [T, D], the state after them). After `final` it is the initial state: the next utterance may begin.
        """
        parameter = self.encoder.after_norm.weight
        array = samples_16k if isinstance(samples_16k, Tensor) else torch.tensor(np.asarray(samples_16k))
        samples = array.to(parameter.device, torch.float32)
        rows = [parameter.new_zeros(0, self.encoder.config.output_size)]
        pieces = samples.split(BATCH_CHUNKS * CHUNK_SAMPLES) if len(samples) else (samples,)
        front_end, encoder = state.front_end, state.encoder
        for index, piece in enumerate(pieces):
            features, front_end = self.front_end.push(piece, front_end, final=final and index == len(pieces) - 1)
            if len(features):
                encoded, encoder = self.encoder(features.to(parameter.dtype), encoder)
                rows.append(encoded)
        return torch.cat(rows), self.initial_state() if final else LinguisticState(front_end, encoder)

    @torch.inference_mode()
    def quantize(self, rows: Tensor) -> Tensor:
        """Codes [T] int64, 0..1023, of rows [T, D]."""
        return self.quantizer.codes(rows)


def load_linguistic_encoder(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    dither: float | None = None,
    released_quirks: bool = False,
) -> LinguisticEncoder:
    """Load the linguistic half of a Step-Audio-Tokenizer folder.

    Args:
        folder: the public layout, see `services.shared.paths`.
        device: where it runs.
        dtype: type of the encoder's weights; features are float32 always.
        dither: overrides what the folder's config.yaml asks for (see `OnlineFrontEnd`).
        released_quirks: see `OnlineFrontEnd`.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others.
    """
    model_folder = Path(folder) / PARAFORMER_FOLDER
    config = read_folder(model_folder)
    shift, scale = read_cmvn(config.cmvn)
    with torch.device("meta"):
        encoder = SanmEncoder(config.encoder)
    encoder = encoder.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    state = read_torch_state(config.weights)
    own = {name.removeprefix(_KEY_PREFIX): value for name, value in state.items() if name.startswith(_KEY_PREFIX)}
    load_strictly(encoder, own, config.weights)
    centroids = load_centroids(Path(folder) / CENTROIDS_FILE, config.encoder.output_size)
    front_end = OnlineFrontEnd(
        shift.to(device),
        scale.to(device),
        dither=config.dither if dither is None else dither,
        released_quirks=released_quirks,
    )
    return LinguisticEncoder(front_end, encoder, KMeansQuantizer(centroids.to(device)))
