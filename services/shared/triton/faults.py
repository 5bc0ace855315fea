"""Typed errors across Triton, which knows a message and a few codes.

A room writes the class of its error in front of the message; the caller raises the same class again:

    PromptTooLongError ──> "PromptTooLongError: a prompt of 9000 tokens …" (INVALID_ARGUMENT) ──> PromptTooLongError

What Triton itself refuses carries no class and becomes an error by its code. What the transport says of a server that
is away names addresses, and these errors reach the public API: it stays in the cause, and so in the log.
"""

import re
from typing import Final

from services.shared.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    RoomUnavailableError,
    StepAudioError,
)

_NAMED: Final = re.compile(r"(?:^|\W)(\w+Error): ")
_BY_CODE: Final[dict[str, type[StepAudioError]]] = {
    "INVALID_ARGUMENT": InvalidInputError,
    "NOT_FOUND": RoomUnavailableError,  # the server runs, and does not serve this model
    "CANCELLED": CancelledRequestError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNIMPLEMENTED": RoomUnavailableError,  # something answers at the address, and it is no Triton server
}
_AWAY: Final = "UNAVAILABLE"


def write_fault(error: StepAudioError) -> str:
    """The message that carries an error through Triton."""
    return f"{type(error).__name__}: {error}"


def read_fault(model: str, code: str, message: str) -> StepAudioError:
    """The error that a model answered with.

    Args:
        model: whose answer it is, for the message.
        code: name of the gRPC status.
        message: of the status.
    """
    named = _NAMED.search(message)
    if named is not None and (kind := _classes().get(named.group(1))) is not None:
        return kind(f"{model}: {message[named.end() :]}")
    if code == _AWAY:
        return RoomUnavailableError(f"{model}: no server of it answers")
    return _BY_CODE.get(code, StepAudioError)(f"{model}: {message} ({code})")


def _classes() -> dict[str, type[StepAudioError]]:
    """Every class of the error tree by its name."""
    found: dict[str, type[StepAudioError]] = {}
    open_classes = [StepAudioError]
    while open_classes:
        kind = open_classes.pop()
        found[kind.__name__] = kind
        open_classes += kind.__subclasses__()
    return found
