"""What one request asks of generation, checked once when it is written down."""

import math
from dataclasses import dataclass

from services.shared.errors import InvalidOptionError


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids first <= id < end.

    Raises:
        InvalidOptionError: the range is empty or begins below 0.
    """

    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise InvalidOptionError(f"the range of allowed ids {self.first}..{self.end} is empty or begins below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose the next token, and when to stop.

    Attributes:
        max_new_tokens: tokens to generate at most.
        temperature: 0 takes the likeliest token always; the other choices then change nothing.
        top_k: choose among this many likeliest tokens; 0 is all of them.
        top_p: choose among the likeliest tokens that together reach this probability; 1 is all of them.
        seed: the same seed gives the same tokens, whatever else runs beside; None draws a fresh one.
        stop_ids: ids that end the reply; the one that did is not part of it.
        repetition_aware: forbid the last token where it stands twice or more among the last ten.
        allowed_ids: hold the reply to these ids and the stop ids; None allows all, as the released system does.

    Raises:
        InvalidOptionError: a value is outside its range.
    """

    max_new_tokens: int
    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()
    repetition_aware: bool = False
    allowed_ids: IdRange | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InvalidOptionError(f"max_new_tokens is {self.max_new_tokens}; ask for at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidOptionError(f"temperature is {self.temperature}; give 0 or more")
        if self.top_k < 0:
            raise InvalidOptionError(f"top_k is {self.top_k}; give 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise InvalidOptionError(f"top_p is {self.top_p}; give more than 0 and at most 1")
        if self.seed is not None and self.seed < 0:
            raise InvalidOptionError(f"seed is {self.seed}; give 0 or more")
        if any(token < 0 for token in self.stop_ids):
            raise InvalidOptionError(f"stop_ids {list(self.stop_ids)} has an id below 0")
