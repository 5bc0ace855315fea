"""Rows to codes: the nearest of the k-means centroids.

Decides the code of a row, by exact Euclidean distance. Source: linguistic_tokenizer.npy of the public checkpoint.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from services.shared.codec.codebooks import LINGUISTIC_SIZE
from services.shared.errors import CorruptFileError, ShapeMismatchError
from services.shared.files import require_file

_BLOCK_ROWS: Final = 4096


class KMeansQuantizer:
    """Nearest-centroid codes.

    Args:
        centroids: [1024, D], any float type.
    """

    def __init__(self, centroids: Tensor) -> None:
        # float64: distances between rows of length D in float32 lose the digits that separate near centroids
        self._centroids = centroids.double()
        self._half_norms = self._centroids.square().sum(dim=1) / 2

    def codes(self, rows: Tensor) -> Tensor:
        """Code [T] int64 of each row [T, D]: the lowest index among the nearest centroids."""
        nearest = [
            (self._half_norms - block.double() @ self._centroids.T).argmin(dim=1) for block in rows.split(_BLOCK_ROWS)
        ]
        return torch.cat(nearest)


def load_centroids(path: Path, dim: int) -> Tensor:
    """Read the centroids; arrays of Python objects are refused, not unpickled.

    Args:
        path: linguistic_tokenizer.npy.
        dim: size of the encoder's rows.

    Returns:
        [1024, dim] float32.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError.
    """
    require_file(path.parent, path.name)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CorruptFileError(f"{path} is truncated or is no plain array ({error}); download it again") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise CorruptFileError(f"{path} holds no array of floating-point numbers; download it again")
    if array.shape != (LINGUISTIC_SIZE, dim):
        raise ShapeMismatchError(
            f"{path} holds centroids of shape {list(array.shape)}, the encoder beside it needs {[LINGUISTIC_SIZE, dim]}"
        )
    if not np.isfinite(array).all():
        raise CorruptFileError(f"{path} holds NaN or infinity; download it again")
    return torch.from_numpy(array.astype(np.float32))
