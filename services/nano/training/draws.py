"""Drawing for a training step, from the generator that belongs to the step."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def one_of(members: Sequence[T], rng: np.random.Generator) -> T:
    """One member, each as likely as another; there is at least one."""
    return members[int(rng.integers(len(members)))]
