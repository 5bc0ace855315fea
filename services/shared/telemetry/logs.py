"""JSON logs on the standard library's logging: one object a line, the event first, then whose work it was.

    logger.info("turn committed", extra={"outcome": "completed"})
    {"event": "turn committed", "time": "2026-…Z", "level": "INFO", "logger": "…", "session": "…", "turn": 3, …}

Session and turn come from the context of the task that logs. Audio and text of a conversation are never logged at INFO
or above; that is the caller's duty, this module cannot tell.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_SESSION: Final[ContextVar[str]] = ContextVar("stepaudio_session", default="")
_TURN: Final[ContextVar[int]] = ContextVar("stepaudio_turn", default=0)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def log_context(*, session: str, turn: int = 0) -> Iterator[None]:
    """Name the session, and the turn if it is known, in every line that this task and those it starts write."""
    tokens = _SESSION.set(session), _TURN.set(turn)
    try:
        yield
    finally:
        _SESSION.reset(tokens[0])
        _TURN.reset(tokens[1])


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON from a record; `extra` becomes fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        fields: dict[str, object] = {
            "event": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
        }
        if session := _SESSION.get():
            fields["session"] = session
        if turn := _TURN.get():
            fields["turn"] = turn
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in fields}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def configure_logs(level: str, *, file: Path | None = None) -> None:
    """Have every logger of this process write JSON.

    Args:
        level: from which on lines are written: DEBUG, INFO, WARNING or ERROR.
        file: where to, at its end; None is standard error.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
