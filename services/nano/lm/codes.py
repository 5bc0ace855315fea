"""What codec values have in common: vectors to begin embeddings with, and which codes lie near which.

Similar codes begin with similar embeddings, and a code may be replaced by a near one while training, as another
rendition of the same sound would. Decides: how. Refuses to know: networks and sequences.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from services.nano.tokenizers.folder import USED_CODES
from services.nano.tokenizers.onnx_file import PHASE_STEP
from services.nano.tokenizers.semantic import ROW_SIZE
from services.shared.codec.codebooks import CODEC_SIZE, GROUP_SEMANTIC, GROUP_TOKENS, SEMANTIC_OFFSET
from services.shared.errors import CorruptFileError
from services.shared.paths import CENTROIDS_FILE, SEMANTIC_ONNX_FILE

NEAREST: Final = 6
_OFFSET_SCALE: Final = 0.5
_SEED: Final = 20_261


def code_starts() -> list[int]:
    """First codec value of each run of 512 used codes: two of linguistic ones, then one for each semantic phase."""
    return [0, USED_CODES, *(SEMANTIC_OFFSET + PHASE_STEP * phase for phase in range(GROUP_SEMANTIC))]


def used_values(*, pairs: bool) -> NDArray[np.int64]:
    """Codec values that occur; with `pairs` also those of second linguistic codes."""
    starts = [start for start in code_starts() if pairs or start != USED_CODES]
    return np.concatenate([np.arange(start, start + USED_CODES) for start in starts])


def read_codebooks(folder: Path) -> tuple[Tensor, Tensor]:
    """Linguistic [512, D] and semantic [512, 24] centroids out of a tokenizer folder.

    Raises:
        CorruptFileError: the semantic file is not one of this recipe.
    """
    linguistic = torch.from_numpy(np.load(folder / CENTROIDS_FILE)[:USED_CODES])
    for constant in onnx.load(str(folder / SEMANTIC_ONNX_FILE)).graph.initializer:
        if tuple(constant.dims) == (ROW_SIZE, USED_CODES):
            return linguistic, torch.from_numpy(numpy_helper.to_array(constant).T.copy())
    raise CorruptFileError(f"{folder / SEMANTIC_ONNX_FILE} holds no codebook of this recipe; run `tokenizers`")


def starting_vectors(codebooks: tuple[Tensor, Tensor], size: int) -> Tensor:
    """[5120, size] vectors of unit variance: near codes near each other, each run shifted by a vector of its own."""
    generator = torch.Generator().manual_seed(_SEED)
    linguistic, semantic = (_projected(book, size, generator) for book in codebooks)
    out = torch.randn(CODEC_SIZE, size, generator=generator)
    for start in code_starts():
        shift = _OFFSET_SCALE * torch.randn(size, generator=generator)
        own = linguistic if start < SEMANTIC_OFFSET else semantic
        out[start : start + USED_CODES] = own + shift
    return out


def near_values(codebooks: tuple[Tensor, Tensor]) -> NDArray[np.int64]:
    """[5120, 6] codec values nearest to each used one, in its own run; others only have themselves."""
    out = np.repeat(np.arange(CODEC_SIZE)[:, None], NEAREST, axis=1)
    for start in code_starts():
        book = codebooks[0] if start < SEMANTIC_OFFSET else codebooks[1]
        nearest = torch.cdist(book, book).topk(NEAREST + 1, largest=False).indices[:, 1:]
        out[start : start + USED_CODES] = nearest.numpy() + start
    return out


def shaken(
    values: NDArray[np.int64], near: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Replace a share of codec values by near ones."""
    chosen = near[values, rng.integers(0, NEAREST, len(values))]
    out: NDArray[np.int64] = np.where(rng.random(len(values)) < share, chosen, values)
    return out


def with_pairs(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole groups with the second linguistic code of each marked: the speech model sees from it where it stands."""
    out = values.copy()
    out[1::GROUP_TOKENS] += USED_CODES
    return out


def _projected(book: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Principal components of equal variance, mixed at random into `size` numbers."""
    centred = book.double() - book.double().mean(0)
    left, spread, _ = torch.linalg.svd(centred, full_matrices=False)
    kept = spread > 1e-6 * spread[0]
    white = left[:, kept] * len(book) ** 0.5
    mixing = torch.randn(white.shape[1], size, generator=generator, dtype=torch.float64) / white.shape[1] ** 0.5
    vectors: Tensor = (white @ mixing).float()
    return vectors
