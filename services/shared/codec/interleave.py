"""The 2:3 interleave of the two codebooks, and its inverse.

    linguistic  a b   c d            semantic  u v w   x y z
    interleaved a b u v w   c d x y z            (semantic codes moved up by 1024)

A stream holds whole groups only: codes that do not fill one are left out (the released code drops them too), so a
streaming caller keeps them until their group is complete.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.shared.codec.codebooks import (
    CODEC_SIZE,
    GROUP_LINGUISTIC,
    GROUP_SEMANTIC,
    GROUP_TOKENS,
    LINGUISTIC_SIZE,
    SEMANTIC_OFFSET,
    SEMANTIC_SIZE,
)
from services.shared.errors import MisalignedSpeechError, UnknownTokenError

Codes = Sequence[int] | NDArray[np.int64]


def interleave(linguistic: Codes, semantic: Codes) -> NDArray[np.int64]:
    """Merge two code sequences into one stream of codec values.

    Args:
        linguistic: [L] codes 0..1023 at 16.67 Hz.
        semantic: [S] codes 0..4095 at 25 Hz.

    Returns:
        [5 * min(L // 2, S // 3)] values 0..5119.

    Raises:
        UnknownTokenError: a code is outside its codebook.
    """
    first = _checked(linguistic, LINGUISTIC_SIZE, "linguistic")
    second = _checked(semantic, SEMANTIC_SIZE, "semantic")
    groups = min(len(first) // GROUP_LINGUISTIC, len(second) // GROUP_SEMANTIC)
    merged = np.concatenate(
        [
            first[: groups * GROUP_LINGUISTIC].reshape(groups, GROUP_LINGUISTIC),
            second[: groups * GROUP_SEMANTIC].reshape(groups, GROUP_SEMANTIC) + SEMANTIC_OFFSET,
        ],
        axis=1,
    )
    stream: NDArray[np.int64] = merged.reshape(groups * GROUP_TOKENS)
    return stream


def deinterleave(values: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a stream of codec values back into its two code sequences.

    Args:
        values: [5 * G] values 0..5119 in the 2:3 pattern.

    Returns:
        (linguistic [2 * G], semantic [3 * G]).

    Raises:
        UnknownTokenError: a value is outside the codec.
        MisalignedSpeechError: the values do not follow the 2:3 pattern in whole groups.
    """
    stream = _checked(values, CODEC_SIZE, "speech")
    if len(stream) % GROUP_TOKENS:
        raise MisalignedSpeechError(f"{len(stream)} speech tokens do not fill whole groups of {GROUP_TOKENS}")
    groups = stream.reshape(-1, GROUP_TOKENS)
    is_semantic = groups >= SEMANTIC_OFFSET
    if is_semantic[:, :GROUP_LINGUISTIC].any() or not is_semantic[:, GROUP_LINGUISTIC:].all():
        raise MisalignedSpeechError("the speech tokens do not follow the pattern of 2 linguistic, 3 semantic")
    linguistic = groups[:, :GROUP_LINGUISTIC].reshape(-1)
    semantic = groups[:, GROUP_LINGUISTIC:].reshape(-1) - SEMANTIC_OFFSET
    return linguistic, semantic


def _checked(codes: Codes, size: int, name: str) -> NDArray[np.int64]:
    array = np.asarray(codes, dtype=np.int64).reshape(-1)
    if len(array) and (array.min() < 0 or array.max() >= size):
        raise UnknownTokenError(f"a {name} code is outside 0..{size - 1} (found {array.min()}..{array.max()})")
    return array
