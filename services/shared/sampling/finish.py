"""Why a generation ended."""

from enum import StrEnum


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    """The model gave a stop id."""
    LENGTH = "length"
    """max_new_tokens, or the end of the model's context, was reached; every token was delivered."""
    CANCELLED = "cancelled"
    ERROR = "error"
