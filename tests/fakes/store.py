"""The store in memory, on an injected clock, with outages as scripted; held to the same contract suite as Redis."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.orchestrator.adapters.redis.lifetime import SessionTimes
from services.orchestrator.conversation.options import Options
from services.orchestrator.ports.store import (
    KeptSession,
    KeptTurn,
    KeptVoice,
    Lease,
    NewSession,
    OpenTurn,
    Progress,
    Resumption,
)
from services.shared.errors import (
    InvalidPageTokenError,
    InvalidResumeTokenError,
    RequestIdReusedError,
    RoomUnavailableError,
    SessionDeletedError,
    SessionEndedError,
    SessionNotFoundError,
    SessionTakenOverError,
    SessionTooLongError,
    StepAudioError,
    TooManyVoicesError,
    VoiceNotFoundError,
)

_MAX_TOKENS = 8
_REQUEST_ID_S = 24 * 3600.0


class WallClock:
    """A clock that stands until it is moved; call it for the time."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class Fault(StrEnum):
    """How a call fails: before anything was done, or after, so that only its answer is lost."""

    REFUSED = "refused"
    LOST = "lost"


@dataclass
class Faults:
    """What goes wrong with a store, by the name of its method, e.g. "commit_turn".

    Attributes:
        away: every call fails as refused.
        gates: calls of a method wait until its gate is set; an event that nobody sets is a store that hangs.
        calls: the methods called so far.
    """

    away: bool = False
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _planned: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))

    def plan(self, method: str, *faults: Fault) -> None:
        """Let the next calls of a method fail in these ways."""
        self._planned[method].extend(faults)

    @asynccontextmanager
    async def around(self, method: str) -> AsyncIterator[None]:
        """What a method does stands inside; nothing of it waits, so every call is atomic."""
        self.calls.append(method)
        if gate := self.gates.get(method):
            await gate.wait()
        planned = self._planned[method]
        fault = planned.popleft() if planned else None
        if self.away or fault is Fault.REFUSED:
            raise RoomUnavailableError("the store is away, as scripted")
        yield
        if fault is Fault.LOST:
            raise RoomUnavailableError("the store's answer was lost, as scripted")


@dataclass
class _Record:
    """A session; a deleted one keeps `gone` and the fence."""

    kept: KeptSession
    fence: int
    owner: str
    tokens: list[str]
    renewed_s: float
    keep_until_s: float
    presented: str = ""
    detached_s: float | None = None
    ended_s: float | None = None
    gone: str = ""
    open_turn: OpenTurn | None = None
    turns: list[KeptTurn] = field(default_factory=list)


class FakeSessionStore:
    """`SessionStore` in memory; `faults` scripts what goes wrong."""

    def __init__(
        self, *, clock: Callable[[], float], times: SessionTimes | None = None, max_turns: int = 10_000
    ) -> None:
        self.faults = Faults()
        self._clock = clock
        self._times = times or SessionTimes()
        self._max_turns = max_turns
        self._records: dict[tuple[str, str], _Record] = {}

    async def create(self, session: NewSession, *, owner: str, token_digest: str) -> Lease:
        async with self.faults.around("create"):
            key = (session.tenant, session.session_id)
            old = self._known(*key)
            if old is not None and (old.gone or old.fence != 1 or old.owner != owner or old.tokens != [token_digest]):
                raise StepAudioError(f"there is a session {session.session_id} already", session_id=session.session_id)
            if old is None:
                kept = KeptSession(
                    tenant=session.tenant,
                    session_id=session.session_id,
                    state="live",
                    formats=session.formats,
                    options=session.options,
                    history=session.history,
                    labels=dict(session.labels),
                    created_s=session.created_s,
                    active_s=session.created_s,
                    expire_s=None,
                    retention_s=session.retention_s,
                    epoch=1,
                    sequence=0,
                    input_sample=0,
                    turn_count=0,
                )
                self._records[key] = _Record(kept, 1, owner, [token_digest], self._clock(), 0.0)
                self._keep(self._records[key])
            return Lease(*key, fence=1, owner=owner)

    async def resume(self, tenant: str, session_id: str, *, owner: str, token_digest: str) -> Resumption:
        async with self.faults.around("resume"):
            record = self._readable(tenant, session_id)
            if self._seen(record).state == "ended":
                raise SessionEndedError("the session has ended", session_id=session_id)
            if token_digest not in record.tokens:
                raise InvalidResumeTokenError("not a resume token of this session", session_id=session_id)
            record.fence += 1
            record.owner = owner
            record.presented = token_digest
            record.renewed_s = self._clock()
            record.detached_s = None
            record.kept = replace(record.kept, active_s=self._clock())
            self._keep(record)
            lease = Lease(tenant, session_id, record.fence, owner)
            return Resumption(lease, self._seen(record), tuple(record.turns), record.open_turn)

    async def add_token(self, lease: Lease, token_digest: str) -> None:
        async with self.faults.around("add_token"):
            record = self._writable(lease)
            if token_digest in record.tokens:
                return
            if len(record.tokens) >= _MAX_TOKENS:
                del record.tokens[2 if record.tokens[1] == record.presented else 1]
            record.tokens.append(token_digest)

    async def confirm_token(self, lease: Lease, token_digest: str) -> None:
        async with self.faults.around("confirm_token"):
            record = self._writable(lease)
            if token_digest in record.tokens:
                del record.tokens[: record.tokens.index(token_digest)]

    async def renew(self, lease: Lease, progress: Progress) -> None:
        async with self.faults.around("renew"):
            record = self._writable(lease)
            now_s = self._clock()
            record.renewed_s = now_s
            if progress.attached:
                record.detached_s = None
            elif record.detached_s is None:
                record.detached_s = now_s
            kept = record.kept
            record.kept = replace(
                kept,
                active_s=now_s if progress.attached else kept.active_s,
                epoch=max(kept.epoch, progress.epoch),
                sequence=max(kept.sequence, progress.sequence),
                input_sample=max(kept.input_sample, progress.input_sample),
            )

    async def save_options(self, lease: Lease, options: Options) -> None:
        async with self.faults.around("save_options"):
            record = self._writable(lease)
            record.kept = replace(record.kept, options=options)

    def open_turn(self, tenant: str, session_id: str) -> OpenTurn | None:
        """What is kept of the turn under way; no method of the port."""
        return self._records[tenant, session_id].open_turn

    async def save_open_turn(self, lease: Lease, turn: OpenTurn) -> None:
        async with self.faults.around("save_open_turn"):
            record = self._writable(lease)
            if turn.number > len(record.turns):
                record.open_turn = turn

    async def commit_turn(self, lease: Lease, turn: KeptTurn) -> None:
        async with self.faults.around("commit_turn"):
            record = self._writable(lease)
            if turn.number > len(record.turns) + 1 or turn.number < 1:
                raise StepAudioError(f"turn {turn.number} cannot follow turn {len(record.turns)}")
            if turn.number <= len(record.turns):
                return
            if turn.number > self._max_turns:
                raise SessionTooLongError(f"a session has {self._max_turns} turns at most", limit=str(self._max_turns))
            record.turns.append(turn)
            record.kept = replace(record.kept, turn_count=turn.number)
            if record.open_turn is not None and record.open_turn.number <= turn.number:
                record.open_turn = None

    async def end(self, lease: Lease) -> None:
        async with self.faults.around("end"):
            record = self._record_of(lease)
            if record.gone == "ended" or (not record.gone and record.ended_s is not None):
                return
            self._writable(lease)
            record.ended_s = self._clock()
            record.open_turn = None
            record.tokens.clear()
            record.keep_until_s = self._clock() + record.kept.retention_s + self._times.margin_s
            if record.kept.retention_s == 0:
                self._bury(record, "ended")

    async def get(self, tenant: str, session_id: str) -> KeptSession:
        async with self.faults.around("get"):
            return self._seen(self._readable(tenant, session_id))

    async def turns(self, tenant: str, session_id: str, *, after: int, limit: int) -> tuple[KeptTurn, ...]:
        async with self.faults.around("turns"):
            return tuple(self._readable(tenant, session_id).turns[max(after, 0) :][: max(limit, 0)])

    async def delete(self, tenant: str, session_id: str) -> None:
        async with self.faults.around("delete"):
            self._bury(self._readable(tenant, session_id), "deleted")

    def _known(self, tenant: str, session_id: str) -> _Record | None:
        """A session whose keys Redis would still have."""
        record = self._records.get((tenant, session_id))
        return None if record is None or self._clock() >= record.keep_until_s else record

    def _keep(self, record: _Record) -> None:
        times = self._times
        span_s = times.lease_s + times.resume_window_s + record.kept.retention_s + times.margin_s
        record.keep_until_s = self._clock() + span_s

    def forget_gone(self) -> None:
        """Let go of what is kept of deleted sessions, so that a long run's memory is that of what is measured."""
        self._records = {key: record for key, record in self._records.items() if not record.gone}

    def _bury(self, record: _Record, why: str) -> None:
        record.gone = why
        record.keep_until_s = self._clock() + self._times.tombstone_s

    def _readable(self, tenant: str, session_id: str) -> _Record:
        record = self._known(tenant, session_id)
        if record is None or record.gone or self._is_expired(record):
            raise SessionNotFoundError("no such session", session_id=session_id)
        return record

    def _record_of(self, lease: Lease) -> _Record:
        record = self._known(lease.tenant, lease.session_id)
        if record is None:
            raise SessionDeletedError("the session has expired", session_id=lease.session_id)
        if lease.fence != record.fence and record.gone != "deleted":
            raise SessionTakenOverError("a newer stream owns the session", session_id=lease.session_id)
        return record

    def _writable(self, lease: Lease) -> _Record:
        record = self._record_of(lease)
        if record.gone == "deleted":
            raise SessionDeletedError("the session was deleted", session_id=lease.session_id)
        if record.gone or record.ended_s is not None:
            raise SessionEndedError("the session has ended", session_id=lease.session_id)
        self._keep(record)
        return record

    def _over_s(self, record: _Record) -> tuple[float, float]:
        """When it becomes, or became, detached and ended."""
        detached_s = record.renewed_s + self._times.lease_s if record.detached_s is None else record.detached_s
        ended_s = detached_s + self._times.resume_window_s if record.ended_s is None else record.ended_s
        return detached_s, ended_s

    def _is_expired(self, record: _Record) -> bool:
        return self._clock() >= self._over_s(record)[1] + record.kept.retention_s

    def _seen(self, record: _Record) -> KeptSession:
        detached_s, ended_s = self._over_s(record)
        now_s = self._clock()
        if now_s < min(detached_s, ended_s):
            return record.kept
        state = "detached" if now_s < ended_s else "ended"
        return replace(record.kept, state=state, expire_s=ended_s + record.kept.retention_s)


@dataclass
class _Shelf:
    """The voices of a tenant, by a position that only grows; positions of removed ones stay known for paging."""

    voices: dict[str, KeptVoice] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    requests: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    last_position: int = 0


class FakeVoiceStore:
    """`VoiceStore` in memory; `faults` scripts what goes wrong."""

    def __init__(self, *, clock: Callable[[], float], max_voices: int = 100, keep_s: float = 90 * 86_400.0) -> None:
        self.faults = Faults()
        self._clock = clock
        self._max_voices = max_voices
        self._keep_s = keep_s
        self._shelves: dict[str, _Shelf] = defaultdict(_Shelf)

    async def put(self, tenant: str, voice: KeptVoice, *, request_id: str, request_digest: str) -> KeptVoice:
        async with self.faults.around("put"):
            shelf = self._shelf(tenant)
            if made := shelf.requests.get(request_id):
                digest, voice_id, made_s = made
                if self._clock() < made_s + _REQUEST_ID_S:
                    if digest != request_digest:
                        raise RequestIdReusedError("this request id made another voice", field="request_id")
                    if voice_id == voice.voice_id and voice_id in shelf.voices:
                        return shelf.voices[voice_id]
            old = shelf.voices.get(voice.voice_id)
            if old is None:
                if len(shelf.voices) >= self._max_voices:
                    raise TooManyVoicesError("the tenant has all its voices", limit=str(self._max_voices))
                shelf.last_position += 1
                shelf.positions[voice.voice_id] = shelf.last_position
                kept = voice
            else:
                kept = replace(voice, created_s=old.created_s, expire_s=max(old.expire_s, voice.expire_s))
            shelf.voices[voice.voice_id] = kept
            if request_id:
                shelf.requests[request_id] = (request_digest, voice.voice_id, self._clock())
            return kept

    async def get(self, tenant: str, voice_id: str) -> KeptVoice:
        async with self.faults.around("get"):
            return self._voice(tenant, voice_id)

    async def use(self, tenant: str, voice_id: str) -> KeptVoice:
        async with self.faults.around("use"):
            voice = self._voice(tenant, voice_id)
            used = replace(voice, expire_s=max(voice.expire_s, self._clock() + self._keep_s))
            self._shelf(tenant).voices[voice_id] = used
            return used

    async def list(self, tenant: str, *, after: str, limit: int) -> tuple[KeptVoice, ...]:
        async with self.faults.around("list"):
            shelf = self._shelf(tenant)
            if after and after not in shelf.positions:
                raise InvalidPageTokenError("no voice to go on from", field="page_token")
            begin = shelf.positions[after] if after else 0
            later = sorted((shelf.positions[name], voice) for name, voice in shelf.voices.items())
            return tuple(_without_features(voice) for position, voice in later if position > begin)[: max(limit, 0)]

    async def delete(self, tenant: str, voice_id: str) -> None:
        async with self.faults.around("delete"):
            self._voice(tenant, voice_id)
            del self._shelf(tenant).voices[voice_id]

    def _shelf(self, tenant: str) -> _Shelf:
        shelf = self._shelves[tenant]
        for name in [name for name, voice in shelf.voices.items() if voice.expire_s <= self._clock()]:
            del shelf.voices[name]
        return shelf

    def _voice(self, tenant: str, voice_id: str) -> KeptVoice:
        voice = self._shelf(tenant).voices.get(voice_id)
        if voice is None:
            raise VoiceNotFoundError(f"no voice {voice_id}", field="voice_id", value=voice_id)
        return voice


def _without_features(voice: KeptVoice) -> KeptVoice:
    return replace(voice, tokens=(), mel=b"", embedding=b"")
