"""The utterances that have begun and not ended, by the correlation id of their sequence."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.tokenizer.speech_tokenizer import Codes, TokenizerState


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Where an utterance stands.

    Attributes:
        state: of the tokenizer.
        tokens: [T] codec values that are final so far.
    """

    state: TokenizerState
    tokens: Codes

    @classmethod
    def begin(cls, state: TokenizerState) -> "Utterance":
        """Before the first sample."""
        return cls(state, np.zeros(0, np.int64))


class Utterances:
    """Keeps utterances, and forgets those whose caller has died.

    Args:
        idle_s: after so long without a request an utterance is over; the scheduler's own limit.
        clock: monotonic seconds.
    """

    def __init__(self, *, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._kept: dict[str, tuple[float, Utterance]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> Utterance | None:
        """The utterance, if it is known."""
        return self._kept[name][1] if name in self._kept else None

    def put(self, name: str, utterance: Utterance) -> None:
        """Keep an utterance as heard now."""
        self._kept[name] = (self._clock(), utterance)

    def drop(self, name: str) -> None:
        """Forget an utterance, known or not."""
        self._kept.pop(name, None)

    def drop_idle(self) -> None:
        """Forget all that were last heard too long ago."""
        oldest_s = self._clock() - self._idle_s
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] >= oldest_s}
