"""Passing from one rendering of a signal to another without a jump."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def crossfade(tail: Array, head: Array) -> Array:
    """Fade from `tail` to `head` over their whole length; the two render the same stretch of time.

    The weights are a raised cosine that adds up to 1, which suits renderings that resemble each other.

    Args:
        tail, head: [..., N] of one shape; N may be 0.

    Returns:
        [..., N] float32.
    """
    length = tail.shape[-1]
    weight = (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)
    faded: Array = tail + (head - tail) * weight
    return faded
