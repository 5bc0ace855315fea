"""Proves from the store's own log who wrote what of each session: Redis' MONITOR, read command by command.

    EVALSHA renew … fence 1        by replica a      HSET …       taken: 1 is the newest fence, and a has it
    EVALSHA resume … owner b       by replica b      HINCRBY …    b owns the session from here on, with fence 2
    EVALSHA commit_turn … fence 1  by replica a                   refused: nothing was written
    EVALSHA commit_turn … fence 2  by replica b      RPUSH turn   taken

Each connection says first whose it is (CLIENT SETNAME). The server carries out one command after the other and logs
them in that order, a script before what it does. So the log is the history itself. What it is held to:

1. Nothing but the scripts writes a session.
2. Fences of what was taken never fall, and each is the newest one at that moment.
3. One owner for each fence, and all that was taken under it came from the connections of that owner.
4. A committed turn is added once, behind the one before it, and nothing ever changes or removes it, but the end of a
   session that is not to be kept.
"""

import asyncio
import codecs
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from services.orchestrator.adapters.redis import scripts

_LINE: Final = re.compile(rb"^\+[\d.]+ \[\d+ ([^\]]+)\] (.*)$")
_WORD: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_SESSION: Final = re.compile(r"^(stepaudio:\{[^}/]*/[^}]+\}):(session|turns|tokens)$")
_READS: Final = frozenset({"HGET", "HMGET", "HGETALL", "LRANGE", "LPOS", "LLEN", "LINDEX", "HEXISTS", "PTTL", "EXISTS"})
_CLOCKS: Final = frozenset({"PEXPIRE"})
_FENCED: Final = frozenset(
    {"ADD_TOKEN", "CONFIRM_TOKEN", "RENEW", "SAVE_OPTIONS", "SAVE_OPEN_TURN", "COMMIT_TURN", "END"}
)
_NAMES: Final = {getattr(scripts, name).digest: name for name in (*_FENCED, "CREATE", "RESUME", "DELETE")}
_LINE_BYTES: Final = 2**24


@dataclass(slots=True)
class SessionHistory:
    """What the log has of one session.

    Attributes:
        fence, owner: the newest.
        owners: of each fence, from 1.
        turns: committed ones as they were written, in order.
        taken, refused: writes with a fence; refused ones had an old fence.
        is_over: it was ended or deleted.
    """

    fence: int = 0
    owner: str = ""
    owners: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    taken: int = 0
    refused: int = 0
    is_over: bool = False


@dataclass(slots=True)
class _Call:
    """A script, and what it wrote; one that the server did not know has not run."""

    client: str
    name: str
    session: str
    arguments: list[str]
    writes: list[list[str]] = field(default_factory=list)
    has_run: bool = False


class History:
    """Takes the log line by line.

    Attributes:
        sessions: by the beginning of their keys.
        problems: every breach of a rule.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, SessionHistory] = {}
        self.problems: list[str] = []
        self._owner_of_client: dict[str, str] = {}
        self._call: _Call | None = None

    @property
    def refused(self) -> int:
        """Writes of owners that were none any more."""
        return sum(session.refused for session in self.sessions.values())

    def feed(self, line: bytes) -> None:
        """Take a line of MONITOR."""
        found = _LINE.match(line.rstrip())
        if found is None:
            return
        client = found.group(1).decode()
        words = [codecs.escape_decode(word)[0].decode(errors="replace") for word in _WORD.findall(found.group(2))]
        if client == "lua":
            if self._call is not None:
                self._call.has_run = True
                self._call.writes += [words] if words[0].upper() not in _READS | _CLOCKS else []
            return
        self.finish()
        self._call = self._begin(client, words)

    def finish(self) -> None:
        """Judge the last script."""
        call, self._call = self._call, None
        if call is not None:
            self._judge(call)

    def check_kept(self, session: str, turns: list[str]) -> None:
        """Hold what the store has of a session in the end to what was committed."""
        known = self.sessions.get(session, SessionHistory())
        if turns != known.turns:
            self.problems.append(f"{session}: {len(turns)} turns are kept, and {len(known.turns)} were committed")

    def _begin(self, client: str, words: list[str]) -> _Call | None:
        command = words[0].upper()
        if command == "CLIENT" and words[1].upper() == "SETNAME":
            self._owner_of_client[client] = words[2]
        if command not in ("EVAL", "EVALSHA"):
            written = [word for word in words[1:] if _SESSION.match(word)]
            if written and command not in _READS:
                self.problems.append(f"{client} wrote {written[0]} by itself: {command}")
            return None
        digest = hashlib.sha1(words[1].encode(), usedforsecurity=False).hexdigest() if command == "EVAL" else words[1]
        name, keys = _NAMES.get(digest, ""), int(words[2])
        session = _SESSION.match(words[3]) if keys else None
        if session is None:
            return None
        return _Call(client, name, session.group(1), words[3 + keys :])

    def _judge(self, call: _Call) -> None:
        known = self.sessions.setdefault(call.session, SessionHistory())
        match call.name:
            case "CREATE" | "RESUME" if call.writes:
                self._own(call, known)
            case name if name in _FENCED:
                self._judge_fenced(call, known)
            case "DELETE" if call.writes:
                known.is_over = True
            case "CREATE" | "RESUME" | "DELETE":
                pass
            case _:
                self._problem(call, "an unknown script")
        self._judge_turns(call, known)

    def _own(self, call: _Call, known: SessionHistory) -> None:
        owner = call.arguments[3]
        if self._owner_of_client.get(call.client) != owner:
            self._problem(call, f"a connection of {self._owner_of_client.get(call.client)} took it for {owner}")
        expected = 0 if call.name == "CREATE" else 1
        if (known.fence > 0) != (expected > 0):
            self._problem(call, f"it had fence {known.fence}")
        known.fence += 1
        known.owner = owner
        known.owners.append(owner)

    def _judge_fenced(self, call: _Call, known: SessionHistory) -> None:
        fence = int(call.arguments[3])
        if not call.writes:
            known.refused += call.has_run and fence < known.fence
            return
        known.taken += 1
        if fence != known.fence:
            self._problem(call, f"taken with fence {fence}, and {known.fence} is the newest")
        owner = self._owner_of_client.get(call.client)
        if owner != known.owner:
            self._problem(call, f"taken from {owner}, and {known.owner} owns it")
        known.is_over = known.is_over or call.name == "END"

    def _judge_turns(self, call: _Call, known: SessionHistory) -> None:
        turns = f"{call.session}:turns"
        for write in call.writes:
            if turns not in write[1:]:
                continue
            if call.name == "COMMIT_TURN" and write[0].upper() == "RPUSH":
                known.turns.append(write[2])
                if int(call.arguments[4]) != len(known.turns):
                    self._problem(call, f"turn {call.arguments[4]} was kept as the {len(known.turns)}th")
            elif write[0].upper() == "DEL" and (known.is_over or not known.turns):
                known.turns.clear()
            else:
                self._problem(call, f"{write[0]} changed committed turns")

    def _problem(self, call: _Call, what: str) -> None:
        self.problems.append(f"{call.session}: {call.name} of {call.client}: {what}")


@asynccontextmanager
async def watched(port: int) -> AsyncIterator[History]:
    """The history of a server on loopback from here to the end of the block, judged as it comes."""
    history = History()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LINE_BYTES)
    writer.write(b"MONITOR\r\n")
    await reader.readline()
    marker = b'"ECHO" "end of history"'

    async def read() -> None:
        while (line := await reader.readline()) and marker not in line:
            history.feed(line)
        history.finish()

    reading = asyncio.create_task(read())
    try:
        yield history
    finally:
        _, end = await asyncio.open_connection("127.0.0.1", port)
        end.write(b'ECHO "end of history"\r\n')
        await end.drain()
        await reading
        for connection in (end, writer):
            connection.close()
