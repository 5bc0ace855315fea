"""Records the cores of a replica: one file a session, written beside the conversation and never in its way.

    core.step ──lines──> waiting, 8 MiB at most ──> a thread, four times a second ──append──> FOLDER/SESSION.jsonl

A recording ends before it is too large, before all of them together are, and where the disk does not follow: then its
last line says so, and the conversation goes on. What could not be recorded is logged once for each session.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.events import Event
from services.orchestrator.conversation.options import Options
from services.orchestrator.pipeline.core import Beginning, PureCore
from services.orchestrator.replay.lines import (
    END_BY_SIZE,
    Content,
    Head,
    describe,
    write_failure,
    write_head,
    write_step,
)
from services.shared.errors import InvalidOptionError

SUFFIX: Final = ".jsonl"
_WAITING_BYTES: Final = 8 * 2**20
_WRITE_S: Final = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """How large recordings may become.

    Attributes:
        session_bytes: one file.
        total_bytes: all files of the folder, those of earlier processes included.
    """

    session_bytes: int = 16 * 2**20
    total_bytes: int = 2**30


class Recorder:
    """Makes cores that are recorded; a context manager, and as `MakeCore` given to `Sessions`.

    Args:
        folder: of the files; made if it is not there.
        content: what is recorded of words.
        limits: how large files become.

    Raises:
        InvalidOptionError: on entering, where the folder cannot be had.
    """

    def __init__(
        self, folder: Path, *, content: Content = Content.SHAPES, limits: RecordingLimits | None = None
    ) -> None:
        self._folder = folder
        self._content = content
        self._limits = limits or RecordingLimits()
        self._lock = threading.Lock()
        self._waiting: dict[Path, list[bytes]] = defaultdict(list)
        self._waiting_bytes = 0
        self._total_bytes = 0
        self._failed: set[Path] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write_for_ever, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._total_bytes = sum(path.stat().st_size for path in self._folder.glob(f"*{SUFFIX}"))
        except OSError as error:
            raise InvalidOptionError(f"recordings cannot be kept in {self._folder}: {error}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def __call__(self, beginning: Beginning) -> "RecordingCore":
        """A core for a session that begins here, or goes on."""
        place = _File(self._free_name(beginning.session_id), self._limits.session_bytes, self._append)
        return RecordingCore(PureCore(beginning), Head(self._content, beginning), place.write)

    def _free_name(self, session_id: str) -> Path:
        """A session that comes back gets another file; so does one of another replica beside this one."""
        part = 1
        while True:
            path = self._folder / f"{session_id or 'session'}-{part}{SUFFIX}"
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                part += 1
                continue
            except OSError as error:
                _log.warning("a session cannot be recorded", exc_info=error)
            return path

    def _append(self, path: Path, line: bytes, is_last: bool) -> bool:
        """Take a line to be written; False if there is no room for it. The last one always has room."""
        with self._lock:
            waiting_bytes, total_bytes = self._waiting_bytes + len(line), self._total_bytes + len(line)
            is_full = waiting_bytes > _WAITING_BYTES or total_bytes > self._limits.total_bytes
            has_room = path not in self._failed and (is_last or not is_full)
            if has_room:
                self._waiting[path].append(line)
                self._waiting_bytes += len(line)
                self._total_bytes += len(line)
            return has_room

    def _write_for_ever(self) -> None:
        while not self._is_over.wait(_WRITE_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
            self._waiting_bytes = 0
        for path, lines in waiting.items():
            try:
                with path.open("ab") as file:
                    file.write(b"".join(lines))
            except OSError as error:
                with self._lock:
                    self._failed.add(path)
                _log.warning("a recording could not be written", exc_info=error)


class _File:
    """One recording: lines until there is no more room for them."""

    def __init__(self, path: Path, most_bytes: int, append: Callable[[Path, bytes, bool], bool]) -> None:
        self._path = path
        self._left_bytes = most_bytes - len(END_BY_SIZE) - 1
        self._append = append

    def write(self, line: str) -> bool:
        """Take a line; False if it is the end of the recording."""
        data = line.encode() + b"\n"
        if len(data) <= self._left_bytes and self._append(self._path, data, False):
            self._left_bytes -= len(data)
            return True
        self._append(self._path, END_BY_SIZE.encode() + b"\n", True)
        _log.warning("a recording ends before its session: there is no more room", extra={"file": self._path.name})
        return False


class RecordingCore:
    """A core that is recorded: see `Core` of pipeline/core.py.

    Args:
        core: decides.
        head: the recording's first line.
        write: takes lines until it says that there is no more room.
    """

    def __init__(self, core: PureCore, head: Head, write: Callable[[str], bool]) -> None:
        self._core = core
        self._content = head.content
        self._write = write
        self._state = describe(core.state)
        self._is_on = True
        self._record(partial(write_head, head))

    @property
    def options(self) -> Options:
        """See the protocol."""
        return self._core.options

    @property
    def epoch(self) -> int:
        """See the protocol."""
        return self._core.epoch

    @property
    def has_ended(self) -> bool:
        """See the protocol."""
        return self._core.has_ended

    @property
    def settled_sample(self) -> int:
        """See the protocol."""
        return self._core.settled_sample

    @property
    def released_sample(self) -> int:
        """See the protocol."""
        return self._core.released_sample

    @property
    def is_replying(self) -> bool:
        """See the protocol."""
        return self._core.is_replying

    def playout_lead_s(self, now_s: float) -> float:
        """See the protocol."""
        return self._core.playout_lead_s(now_s)

    def playout_slack_s(self, now_s: float) -> float:
        """See the protocol."""
        return self._core.playout_slack_s(now_s)

    def step(self, event: Event) -> tuple[Effect, ...]:
        """See the protocol."""
        try:
            effects = self._core.step(event)
        except Exception as error:
            self._record(partial(write_failure, event, error, self._content))
            raise
        before, self._state = self._state, describe(self._core.state) if self._is_on else ""
        shown = self._state if effects or before != self._state else ""
        self._record(partial(write_step, event, effects, shown, self._content))
        return effects

    def _record(self, line: Callable[[], str]) -> None:
        if not self._is_on:
            return
        try:
            self._is_on = self._write(line())
        except Exception as error:  # noqa: BLE001 - a recording that fails is no reason for a conversation to
            self._is_on = False
            _log.error("a session is not recorded any more, by a fault of the recorder's", exc_info=error)
