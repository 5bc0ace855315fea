"""Lines of log are JSON objects that begin with the event and say whose work it was."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.shared.telemetry.logs import configure_logs, log_context

pytestmark = pytest.mark.unit

LOG = logging.getLogger("test")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own are put back untouched
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("INFO")
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_begins_with_the_event_and_carries_its_fields(lines: io.StringIO) -> None:
    LOG.info("turn committed", extra={"outcome": "completed"})
    LOG.debug("not written")
    (line,) = lines.getvalue().splitlines()
    fields = json.loads(line)
    assert line.startswith('{"event": "turn committed"')
    assert (fields["level"], fields["logger"], fields["outcome"]) == ("INFO", "test", "completed")
    assert fields["time"].endswith("+00:00")
    assert "session" not in fields


def test_session_and_turn_follow_the_task_and_those_it_starts(lines: io.StringIO) -> None:
    async def work() -> None:
        LOG.info("worked")

    async def converse(session: str) -> None:
        with log_context(session=session, turn=2):
            await asyncio.sleep(0)
            async with asyncio.TaskGroup() as group:
                group.create_task(work())

    async def both() -> None:
        await asyncio.gather(converse("a"), converse("b"))
        LOG.info("after")

    asyncio.run(both())
    found = [(fields.get("session"), fields.get("turn")) for fields in map(json.loads, lines.getvalue().splitlines())]
    assert sorted(found[:2]) == [("a", 2), ("b", 2)]
    assert found[2] == (None, None)


def test_an_error_is_one_line_and_a_field_cannot_hide_the_event(lines: io.StringIO) -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        LOG.exception("it failed", extra={"event": "other", "level": "none"})
    (line,) = lines.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["event"], fields["level"]) == ("it failed", "ERROR")
    assert "RuntimeError: first\nsecond" in fields["error"]


def test_a_file_is_written_at_its_end(lines: io.StringIO, tmp_path: Path) -> None:
    file = tmp_path / "replica.log"
    file.write_text("before\n")
    configure_logs("INFO", file=file)
    LOG.info("started")
    (handler,) = logging.getLogger().handlers
    handler.close()
    assert file.read_text().startswith('before\n{"event": "started"')
    assert lines.getvalue() == ""
