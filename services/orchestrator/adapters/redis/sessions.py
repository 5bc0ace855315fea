"""Sessions in Redis: `SessionStore` of the ports. Each write is one script that checks the lease's fence.

It keeps digests of resume tokens and never a token. A presented digest is compared with each valid one in constant
time here; the script that takes the session over then looks it up again, for it may have been replaced meanwhile.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from services.orchestrator.adapters.redis import schema, scripts
from services.orchestrator.adapters.redis.connect import Connection, Script, Word
from services.orchestrator.adapters.redis.keys import SessionKeys, session_keys
from services.orchestrator.adapters.redis.lifetime import ENDED, LIVE, Marks, SessionTimes, Standing, judge, keep_s
from services.orchestrator.conversation.options import Options
from services.orchestrator.ports.store import KeptSession, KeptTurn, Lease, NewSession, OpenTurn, Progress, Resumption
from services.shared.errors import (
    InvalidResumeTokenError,
    SessionDeletedError,
    SessionEndedError,
    SessionNotFoundError,
    SessionTakenOverError,
    SessionTooLongError,
    StepAudioError,
)

TOKENS_AT_MOST: Final = 8
"""Resume tokens of one session that are valid at once: one for each stream of which no message has arrived yet."""
_TURNS_AT_ONCE: Final = 500

_Fields = Mapping[bytes, bytes]


class RedisSessionStore:
    """`SessionStore` on a connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float],
        times: SessionTimes | None = None,
        max_turns: int = 10_000,
    ) -> None:
        """Make it.

        Args:
            connection: to the store.
            clock: wall-clock seconds; those of all replicas differ by less than `times.margin_s`.
            times: how long things hold; the same at all replicas.
            max_turns: of one session.
        """
        self._connection = connection
        self._clock = clock
        self._times = times or SessionTimes()
        self._max_turns = max_turns

    async def create(self, session: NewSession, *, owner: str, token_digest: str) -> Lease:
        """Keep a new session; see the port."""
        lease = Lease(session.tenant, session.session_id, 1, owner)
        now_s = self._clock()
        fields: dict[str, Word] = {
            "created_s": repr(float(session.created_s)),
            "active_s": repr(float(session.created_s)),
            "renewed_s": repr(now_s),
            "retention_s": int(session.retention_s),
            "epoch": 1,
            "sequence": 0,
            "input_sample": 0,
            "turn_count": 0,
            "formats": schema.FORMATS.write(session.formats),
            "options": schema.OPTIONS.write(session.options),
            "history": schema.HISTORY.write(session.history),
            "labels": schema.LABELS.write(session.labels),
        }
        words = [word for pair in fields.items() for word in pair]
        keys = session_keys(session.tenant, session.session_id)
        self._accept(await self._run(scripts.CREATE, keys, owner, token_digest, *words), lease)
        return lease

    async def resume(self, tenant: str, session_id: str, *, owner: str, token_digest: str) -> Resumption:
        """Take a session over; see the port."""
        keys = session_keys(tenant, session_id)
        if (await self._standing(keys, session_id)).state == ENDED:
            raise SessionEndedError("the session has ended", session_id=session_id)
        tokens: list[bytes] = await self._connection.command("LRANGE", keys.tokens, 0, -1)
        matches = [hmac.compare_digest(token, token_digest.encode()) for token in tokens]
        if not any(matches):
            raise InvalidResumeTokenError("not a resume token of this session", session_id=session_id)
        answer = await self._run(scripts.RESUME, keys, owner, token_digest)
        if isinstance(answer, bytes):
            _refuse_reader(answer, session_id)
        fields = dict(zip(answer[::2], answer[1::2], strict=True))
        lease = Lease(tenant, session_id, int(fields[b"fence"]), owner)
        session = _session(tenant, session_id, fields, Standing(LIVE, None, is_expired=False))
        turns: list[KeptTurn] = []
        while len(turns) < session.turn_count:  # only this owner adds to them now, and none ever changes
            page = await self._page(keys, len(turns), min(_TURNS_AT_ONCE, session.turn_count - len(turns)))
            if not page:
                raise SessionDeletedError("the session was deleted", session_id=session_id)
            turns.extend(page)
        kept = fields.get(b"open_turn")
        return Resumption(lease, session, tuple(turns), None if kept is None else schema.OPEN_TURN.read(kept))

    async def add_token(self, lease: Lease, token_digest: str) -> None:
        """Let a new token be valid; see the port."""
        await self._write(scripts.ADD_TOKEN, lease, token_digest, TOKENS_AT_MOST)

    async def confirm_token(self, lease: Lease, token_digest: str) -> None:
        """Let the tokens before this one be void; see the port."""
        await self._write(scripts.CONFIRM_TOKEN, lease, token_digest)

    async def renew(self, lease: Lease, progress: Progress) -> None:
        """Prove that the owner lives; see the port."""
        marks: tuple[Word, ...] = ("epoch", progress.epoch, "sequence", progress.sequence)
        marks = (*marks, "input_sample", progress.input_sample)
        await self._write(scripts.RENEW, lease, "1" if progress.attached else "0", *marks)

    async def save_options(self, lease: Lease, options: Options) -> None:
        """Keep the options; see the port."""
        await self._write(scripts.SAVE_OPTIONS, lease, schema.OPTIONS.write(options))

    async def save_open_turn(self, lease: Lease, turn: OpenTurn) -> None:
        """Keep the turn under way; see the port."""
        await self._write(scripts.SAVE_OPEN_TURN, lease, turn.number, schema.OPEN_TURN.write(turn))

    async def commit_turn(self, lease: Lease, turn: KeptTurn) -> None:
        """Keep a turn for good; see the port."""
        await self._write(scripts.COMMIT_TURN, lease, turn.number, schema.TURN.write(turn), self._max_turns)

    async def end(self, lease: Lease) -> None:
        """The session is over; see the port."""
        await self._write(scripts.END, lease, repr(self._times.margin_s), repr(self._times.tombstone_s))

    async def get(self, tenant: str, session_id: str) -> KeptSession:
        """Look at a session; see the port."""
        fields: _Fields = await self._connection.command("HGETALL", session_keys(tenant, session_id).session)
        return _session(tenant, session_id, fields, self._judge(fields, session_id))

    async def turns(self, tenant: str, session_id: str, *, after: int, limit: int) -> tuple[KeptTurn, ...]:
        """Committed turns; see the port."""
        keys = session_keys(tenant, session_id)
        await self._standing(keys, session_id)
        return await self._page(keys, max(after, 0), limit) if limit > 0 else ()

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete a session; see the port."""
        keys = session_keys(tenant, session_id)
        await self._standing(keys, session_id)
        answer = await self._run(scripts.DELETE, keys, repr(self._times.tombstone_s))
        if answer != b"ok":
            _refuse_reader(answer, session_id)

    async def _write(self, script: Script, lease: Lease, *arguments: Word) -> None:
        keys = session_keys(lease.tenant, lease.session_id)
        self._accept(await self._run(script, keys, lease.fence, *arguments), lease)

    async def _run(self, script: Script, keys: SessionKeys, *arguments: Word) -> bytes | list[bytes]:
        head = (repr(self._clock()), schema.VERSION, repr(keep_s(self._times)))
        answer: bytes | list[bytes] = await self._connection.run(script, keys.all, (*head, *arguments))
        return answer

    async def _standing(self, keys: SessionKeys, session_id: str) -> Standing:
        names = ("v", "gone", "renewed_s", "detached_s", "ended_s", "retention_s", "keep_until_s")
        values = await self._connection.command("HMGET", keys.session, *names)
        found = {name.encode(): value for name, value in zip(names, values, strict=True) if value is not None}
        return self._judge(found, session_id)

    def _judge(self, fields: _Fields, session_id: str) -> Standing:
        """What a session is now, or SessionNotFoundError."""
        if fields:
            schema.check_version(int(fields[b"v"]))
        if not fields or b"gone" in fields or self._clock() >= float(fields[b"keep_until_s"]):
            raise SessionNotFoundError("no such session", session_id=session_id)
        marks = Marks(
            renewed_s=float(fields[b"renewed_s"]),
            detached_s=_optional(fields, b"detached_s"),
            ended_s=_optional(fields, b"ended_s"),
            retention_s=int(fields[b"retention_s"]),
        )
        standing = judge(marks, self._times, self._clock())
        if standing.is_expired:
            raise SessionNotFoundError("no such session", session_id=session_id)
        return standing

    async def _page(self, keys: SessionKeys, first: int, count: int) -> tuple[KeptTurn, ...]:
        found = await self._connection.command("LRANGE", keys.turns, first, first + count - 1)
        return tuple(schema.TURN.read(turn) for turn in found)

    def _accept(self, answer: bytes | list[bytes], lease: Lease) -> None:
        """Pass "ok"; raise what any other answer to a write means."""
        session_id = lease.session_id
        match answer:
            case b"ok":
                return
            case b"taken":
                raise SessionTakenOverError("a newer stream owns the session", session_id=session_id)
            case b"deleted":
                raise SessionDeletedError("the session was deleted", session_id=session_id)
            case b"missing":
                raise SessionDeletedError("the session has expired", session_id=session_id)
            case b"ended":
                raise SessionEndedError("the session has ended", session_id=session_id)
            case b"full":
                limit = str(self._max_turns)
                raise SessionTooLongError(f"a session has {limit} turns at most", session_id=session_id, limit=limit)
            case b"gap":
                raise StepAudioError("a turn was to be kept whose turn before is not", session_id=session_id)
            case b"exists":
                raise StepAudioError(f"there is a session {session_id} already", session_id=session_id)
            case _:
                raise StepAudioError(f"the session cannot be written: {answer!r}", session_id=session_id)


def _refuse_reader(answer: bytes | list[bytes], session_id: str) -> NoReturn:
    """Raise what an answer to somebody without a lease means."""
    match answer:
        case b"missing" | b"deleted":
            raise SessionNotFoundError("no such session", session_id=session_id)
        case b"ended":
            raise SessionEndedError("the session has ended", session_id=session_id)
        case b"token":
            raise InvalidResumeTokenError("not a resume token of this session", session_id=session_id)
        case _:
            raise StepAudioError(f"the session cannot be taken: {answer!r}", session_id=session_id)


def _optional(fields: _Fields, name: bytes) -> float | None:
    return float(fields[name]) if name in fields else None


def _session(tenant: str, session_id: str, fields: _Fields, standing: Standing) -> KeptSession:
    return KeptSession(
        tenant=tenant,
        session_id=session_id,
        state=standing.state,
        formats=schema.FORMATS.read(fields[b"formats"]),
        options=schema.OPTIONS.read(fields[b"options"]),
        history=schema.HISTORY.read(fields[b"history"]),
        labels=schema.LABELS.read(fields[b"labels"]),
        created_s=float(fields[b"created_s"]),
        active_s=float(fields[b"active_s"]),
        expire_s=standing.expire_s,
        retention_s=int(fields[b"retention_s"]),
        epoch=int(fields[b"epoch"]),
        sequence=int(fields[b"sequence"]),
        input_sample=int(fields[b"input_sample"]),
        turn_count=int(fields[b"turn_count"]),
    )
