"""The live sessions of this replica: who may begin or go on, who owns a session, and when it is over.

A session is owned by one replica at a time, by a lease in the store. It is renewed here for all sessions in one task;
where the store answers that a newer owner has it, or that it was deleted, the stream ends and nothing more is written.

    start ──> attached <──resume── detached ──window──> over    drain: heard out, told to go ──grace──> released
                  └────detach─────────^
"""

import asyncio
import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from services.orchestrator.conversation.core import Past
from services.orchestrator.conversation.events import GoAwayReason, Playback, Resumed, Say, SpeculationAllowed
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message
from services.orchestrator.pipeline.core import Beginning, Core, MakeCore, PureCore
from services.orchestrator.pipeline.identity import Fate, Identity, Opening
from services.orchestrator.pipeline.limits import SEQUENCE_HEADROOM
from services.orchestrator.pipeline.rations import Allowance
from services.orchestrator.pipeline.session import Stream
from services.orchestrator.pipeline.shell import Session
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.work import MAX_SEED
from services.orchestrator.ports.store import Lease, NewSession, Resumption, StreamFormats
from services.shared.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidInputError,
    OverloadedError,
    QuotaExceededError,
    RoomUnavailableError,
    SessionDeletedError,
    SessionTakenOverError,
    StepAudioError,
)

_LOOK_AGAIN_S: Final = 0.1
"""Between two looks at who can be told to go."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A client begins a session; all values are checked.

    Attributes:
        tenant: whose session it is.
        formats: of the client's audio.
        options: all values in force, defaults filled in.
        history: what was said before.
        greeting: what the agent says first; empty lets the user begin.
        labels: the caller's own.
        retention_s: how long the session can be read after its end.
        traceparent: W3C trace context of the call; empty without one.
    """

    tenant: str
    formats: StreamFormats
    options: Options
    history: tuple[Message, ...] = ()
    greeting: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    retention_s: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A client goes on with a session.

    Attributes:
        tenant, session_id: which.
        resume_token: the latest one the client has.
        received_sequence: number of the last event it has.
        playback: what it heard of the last reply.
        ended_turn: the last turn whose end it was told of, 0 for none.
        traceparent: W3C trace context of the call; empty without one.
    """

    tenant: str
    session_id: str
    resume_token: str
    received_sequence: int
    playback: Playback | None = None
    ended_turn: int = 0
    traceparent: str = ""


class Sessions:
    """Use it as `async with Sessions(...)`: leaving it ends every stream with DrainingError and waits for all work.

    Args:
        shared: what all sessions have.
        owner: name of this replica, for leases.
        make_core: makes the core of a session.
        new_token: draws resume tokens and session ids.
    """

    def __init__(
        self,
        shared: Surroundings,
        *,
        owner: str,
        make_core: MakeCore = PureCore,
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self._shared = shared
        self._limits = shared.limits
        self._owner = owner
        self._make_core = make_core
        self._new_token = new_token
        self._sessions: dict[tuple[str, str], Session] = {}
        self._opening: Counter[str] = Counter()
        self._tasks = asyncio.TaskGroup()
        self._renewing: asyncio.Task[None] | None = None
        self._is_draining = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._renewing = self._tasks.create_task(self._renew_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_draining = True
        self._release_all()
        if self._renewing is not None:
            self._renewing.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    @property
    def open_sessions(self) -> int:
        """Sessions that live here, detached ones included."""
        return len(self._sessions)

    @property
    def attached_streams(self) -> int:
        """Sessions that have a client now."""
        return sum(session.is_attached for session in self._sessions.values())

    @property
    def is_draining(self) -> bool:
        """Whether no new session is taken."""
        return self._is_draining

    @property
    def degradation_level(self) -> int:
        """What replies do without now; see conversation/governor.py."""
        return self._shared.rations.level

    async def start(self, request: StartRequest) -> Stream:
        """Begin a session.

        Raises:
            DrainingError, OverloadedError: this replica takes none, or none more.
            QuotaExceededError: the tenant has as many as it may (`limit`).
            VoiceNotFoundError: the voice is unknown.
            RoomUnavailableError, DeadlineExceededError: the store or a room does not answer.
        """
        shared, tenant = self._shared, request.tenant
        with self._place(tenant):
            async with _answer_within(self._limits.voice_s, "the voices"):
                await shared.voices.find(tenant, request.options.voice.voice_id)
            session_id, token = self._new_token(), self._new_token()
            created_s = shared.wall_clock()
            new = NewSession(
                tenant=tenant,
                session_id=session_id,
                formats=request.formats,
                options=request.options,
                history=request.history,
                labels=request.labels,
                created_s=created_s,
                retention_s=request.retention_s,
            )
            async with _answer_within(self._limits.store_s, "the store of sessions"):
                lease = await shared.store.create(new, owner=self._owner, token_digest=_digest(token))
            rate_hz, seed = shared.rooms.vocoder.sample_rate_hz, shared.chance.randint(0, MAX_SEED)
            core = self._make_core(
                Beginning(request.options, request.history, rate_hz, seed=seed, session_id=session_id)
            )
            session = await self._begin(Identity(session_id, tenant, request.formats, created_s), core, lease)
            stream = session.attach(Opening(token, _digest(token), lease, traceparent=request.traceparent))
            if request.greeting:
                session.tell(Say(shared.clock(), "", request.greeting))
            return stream

    async def resume(self, request: ResumeRequest) -> Stream:
        """Go on with a session, wherever it lived; an older stream of it ends with SessionTakenOverError.

        Raises:
            DrainingError, OverloadedError, QuotaExceededError, RoomUnavailableError, DeadlineExceededError: as `start`.
            SessionNotFoundError, InvalidResumeTokenError, SessionEndedError: as they say.
            InvalidInputError: more events are said to have been received than were sent.
        """
        shared, key = self._shared, (request.tenant, request.session_id)
        with self._place(request.tenant, known=key in self._sessions):
            token = self._new_token()
            async with _answer_within(self._limits.store_s, "the store of sessions"):
                found = await shared.store.resume(*key, owner=self._owner, token_digest=_digest(request.resume_token))
            live = self._live(found)
            if live is not None:
                live.take_lease(found.lease)
            highest = max(found.session.sequence, SEQUENCE_HEADROOM) if live is None else live.sequence
            if not 0 <= request.received_sequence <= highest:
                raise InvalidInputError(
                    "the client says that it received more events than were sent", field="resume.received_sequence"
                )
            async with _answer_within(self._limits.store_s, "the store of sessions"):
                await shared.store.add_token(found.lease, _digest(token))
            session = await self._take_over(found, request) if live is None or not live.can_resume else live
            resumed = Resumed(shared.clock(), request.playback)
            opening = Opening(
                token,
                _digest(token),
                found.lease,
                received_sequence=request.received_sequence,
                ended_turn=request.ended_turn,
                resumed=resumed,
                traceparent=request.traceparent,
            )
            return session.attach(opening)

    def detach(self, stream: Stream) -> None:
        """The stream is over; call it however it ended. A session that has not ended waits to be resumed."""
        session = self._sessions.get((stream.tenant, stream.session_id))
        if session is not None:
            session.detach(stream)

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete a session for good; if it lives here, its stream ends with SessionDeletedError at once.

        Raises:
            SessionNotFoundError: no such session.
            RoomUnavailableError, DeadlineExceededError: the store does not answer.
        """
        async with _answer_within(self._limits.store_s, "the store of sessions"):
            await self._shared.store.delete(tenant, session_id)
        session = self._sessions.get((tenant, session_id))
        if session is not None:
            session.end(Fate.LOST, SessionDeletedError("the session was deleted", session_id=session_id))

    async def drain(self, grace_s: float) -> None:
        """Take no session any more, tell every client to go, and end what is left after the grace with DrainingError.

        A caller who is being answered is told when the answer was heard, or after half of the grace: to move between
        two turns costs nothing. Returns when no session lives here; sessions stay resumable on another replica.
        """
        self._is_draining = True
        clock = self._shared.clock
        ends_s = clock() + grace_s
        told: set[Session] = set()
        while self._sessions and (left_s := ends_s - clock()) > 0:
            for session in list(self._sessions.values()):
                if not session.is_attached:
                    session.end(Fate.RELEASED, None)
                elif session not in told and not (session.is_replying and left_s > grace_s / 2):
                    told.add(session)
                    session.close_soon(GoAwayReason.DRAINING, left_s, resumable=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_AGAIN_S)):
                    await self._is_empty.wait()
        self._release_all()
        await self._is_empty.wait()

    @contextmanager
    def _place(self, tenant: str, *, known: bool = False) -> Iterator[None]:
        """Hold a place for a session that is being opened; one that lives here has its place."""
        if self._is_draining:
            raise DrainingError("this replica shuts down")
        opening = sum(self._opening.values())
        of_tenant = sum(owner == tenant for owner, _ in self._sessions) + self._opening[tenant]
        if not known and len(self._sessions) + opening >= self._limits.max_sessions:
            raise OverloadedError("this replica has as many sessions as it takes")
        if not known and of_tenant >= self._limits.max_tenant_sessions:
            limit = self._limits.max_tenant_sessions
            raise QuotaExceededError(f"the tenant has {limit} sessions, and may have no more", limit=str(limit))
        self._opening[tenant] += not known
        try:
            yield
        finally:
            self._opening[tenant] -= not known
            if not self._opening[tenant]:
                del self._opening[tenant]

    def _live(self, found: Resumption) -> Session | None:
        """The session, if it lives here and nobody else had it in between."""
        session = self._sessions.get((found.lease.tenant, found.lease.session_id))
        if session is None or not session.can_resume:
            return None
        if found.lease.fence == session.lease.fence + 1:
            return session
        session.end(Fate.LOST, SessionTakenOverError("another replica had the session meanwhile"))
        return None

    async def _take_over(self, found: Resumption, request: ResumeRequest) -> Session:
        kept = found.session
        epoch = kept.epoch if found.open_turn is None else max(kept.epoch, found.open_turn.epoch)
        turn = found.open_turn
        basis = None if turn is None else turn.basis
        past = Past(found.turns, turn, epoch, kept.input_sample, self._shared.clock(), basis)
        rate_hz = self._shared.rooms.vocoder.sample_rate_hz
        seed = self._shared.chance.randint(0, MAX_SEED)
        core = self._make_core(Beginning(kept.options, kept.history, rate_hz, past, seed, kept.session_id))
        identity = Identity(kept.session_id, kept.tenant, kept.formats, kept.created_s)
        session = await self._begin(identity, core, found.lease, first_sample=kept.input_sample)
        if turn is not None:
            session.work.take_over(turn, epoch)
        for ended in found.turns:
            if ended.number > request.ended_turn:
                session.remember(ended)
        return session

    async def _begin(self, identity: Identity, core: Core, lease: Lease, *, first_sample: int = 0) -> Session:
        if self._is_draining:
            raise DrainingError("this replica shuts down")
        session = Session(identity, core, lease, self._shared, first_sample=first_sample)
        key = identity.tenant, identity.session_id
        before = self._sessions.get(key)
        if before is not None and not before.is_over:
            before.end(Fate.LOST, SessionTakenOverError("a newer stream owns the session"))
        self._sessions[key] = session
        self._is_empty.clear()
        self._tasks.create_task(self._live_out(key, session))
        try:
            await session.ready()
        except asyncio.CancelledError:
            session.end(Fate.RELEASED, None)
            raise
        return session

    async def _live_out(self, key: tuple[str, str], session: Session) -> None:
        def told(allowance: Allowance) -> None:
            session.tell(SpeculationAllowed(self._shared.clock(), *allowance))

        try:
            with self._shared.rations.member(session.identity.tenant, told):
                await session.run()
        finally:
            if self._sessions.get(key) is session:
                del self._sessions[key]
            if not self._sessions:
                self._is_empty.set()

    def _release_all(self) -> None:
        for session in list(self._sessions.values()):
            session.end(Fate.RELEASED, DrainingError("this replica shuts down"))

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._limits.renewal_s)
            self._shared.rations.review()
            async with asyncio.TaskGroup() as tasks:
                for session in list(self._sessions.values()):
                    tasks.create_task(self._renew(session))

    async def _renew(self, session: Session) -> None:
        lease = session.lease
        try:
            async with asyncio.timeout(self._limits.store_s):
                await self._shared.store.renew(lease, session.progress)
        except (RoomUnavailableError, TimeoutError) as error:
            _log.warning("a lease was not renewed; it is tried again", exc_info=error)
        except StepAudioError as error:
            if session.lease == lease:  # else a resume here has brought a newer one meanwhile
                session.lost(error)
        except Exception as error:  # noqa: BLE001 - one session's trouble is not the others'
            _log.error("a lease was not renewed by a fault of the server's", exc_info=error)


@asynccontextmanager
async def _answer_within(seconds: float, what: str) -> AsyncIterator[None]:
    """Wait so long for an answer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceededError(f"{what} did not answer within {seconds:g} s") from error


def _digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
