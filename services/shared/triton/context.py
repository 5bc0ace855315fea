"""Whose work a request is: carried as request parameters, so that every stage can drop what is out of date."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.shared.errors import InvalidInputError

SESSION, TURN, EPOCH, TRACEPARENT, SLACK = "session", "turn", "epoch", "traceparent", "slack_ms"

PRIORITY_LEVELS: Final = 32
"""Of the queue in front of a model whose batches Triton forms; 1 is taken first, and what says nothing is at 1."""

_LEVEL_MS: Final = 100


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Session, turn and epoch of a request, and the trace it belongs to.

    Attributes:
        session: id of the conversation; empty for work that belongs to none and is never out of date.
        turn: number of the turn within it.
        epoch: grows with every interruption; work of an older epoch of the session is dropped.
        traceparent: W3C trace context of the caller's span; empty where nothing is traced.
        slack_ms: how long the listener can wait for this work: audio that is ahead of them, and any pause they bear.
            Where requests compete for an engine, the one due first goes first; 0 is at once.
    """

    session: str = ""
    turn: int = 0
    epoch: int = 0
    traceparent: str = ""
    slack_ms: int = 0

    @property
    def priority(self) -> int:
        """The slack as a level of Triton's queue, 1 to `PRIORITY_LEVELS`: what is due first is taken first."""
        return 1 + min(self.slack_ms // _LEVEL_MS, PRIORITY_LEVELS - 1)

    @property
    def parameters(self) -> dict[str, str | int]:
        """As request parameters; what is empty is left out."""
        told: dict[str, str | int] = {SESSION: self.session, TURN: self.turn, EPOCH: self.epoch} if self.session else {}
        if self.traceparent:
            told[TRACEPARENT] = self.traceparent
        if self.slack_ms:
            told[SLACK] = self.slack_ms
        return told


def parse_context(text: str) -> RequestContext:
    """Read the context from the request parameters as Triton hands them to a model, a JSON object.

    Raises:
        InvalidInputError: a part of the context is of a wrong type.
    """
    values: Mapping[str, object] = json.loads(text) if text else {}
    session, turn, epoch = values.get(SESSION, ""), values.get(TURN, 0), values.get(EPOCH, 0)
    if not (isinstance(session, str) and isinstance(turn, int) and isinstance(epoch, int)):
        raise InvalidInputError(
            f"the request parameters say session {session!r}, turn {turn!r}, epoch {epoch!r}: "
            "the first must be text, the others whole numbers"
        )
    traceparent = values.get(TRACEPARENT, "")
    if not isinstance(traceparent, str):
        raise InvalidInputError(f"the request parameters say traceparent {traceparent!r}: it must be text")
    slack_ms = values.get(SLACK, 0)
    if not isinstance(slack_ms, int) or isinstance(slack_ms, bool) or slack_ms < 0:
        raise InvalidInputError(f"the request parameters say slack_ms {slack_ms!r}: it must be a whole number from 0")
    return RequestContext(session, turn, epoch, traceparent, slack_ms)
