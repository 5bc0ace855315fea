"""A pass over the flow that nobody waits for any more is given up between two of its steps.

    requests   ──┬── pass: step step step ╳ CancelledRequestError
                 └── cancelled ──────────┘  every one of them; while one is wanted, all of them are made

An interrupted reply's pass would otherwise hold the engine for as long as a chunk takes. Who serves requests says with
`while_wanted` what is worked on; whoever works asks `check_wanted` where it can stop. Without requests all is wanted.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, TypeVar

from services.shared.errors import CancelledRequestError

_REQUESTS: Final[ContextVar[tuple[Any, ...]]] = ContextVar("requests", default=())  # Any: Triton publishes no types
T = TypeVar("T")
Execute = Callable[[T, list[Any]], list[Any]]  # Any: as above


def while_wanted(execute: Execute[T]) -> Execute[T]:
    """Make a room's `execute` work for its requests only until all of them are cancelled."""

    @wraps(execute)
    def watched(room: T, requests: list[Any]) -> list[Any]:  # Any: as above
        token = _REQUESTS.set(tuple(requests))
        try:
            return execute(room, requests)
        finally:
            _REQUESTS.reset(token)

    return watched


def check_wanted() -> None:
    """Go on if anybody waits for what is worked on.

    Raises:
        CancelledRequestError: every request was cancelled.
    """
    requests = _REQUESTS.get()
    if requests and all(request.is_cancelled() for request in requests):
        raise CancelledRequestError("the caller has gone")
