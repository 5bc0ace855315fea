"""What the sessions of a replica may spend: replies prepared ahead, by tenant, and quality, by the rooms' slack.

    reply prepared ──> a place of its tenant's ──> committed, or its tokens go off the tenant's minute
    samples came   ──margin─> the governor
                                   └── either changes what is allowed ──> every session that it concerns is told

A tenant may prepare so many replies at once and waste so many tokens a minute. A minute's tokens are a bucket that
fills evenly; one that is overdrawn allows nothing until it has filled up again. Budgets are of one replica, as its
limits of sessions are. It decides nothing about turns: it tells, and the conversation's core withholds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.governor import Governor, observed, reviewed
from services.orchestrator.conversation.record import Degradation, ReplyWork
from services.orchestrator.pipeline.limits import RationLimits

_MINUTE_S: Final = 60.0


class Allowance(NamedTuple):
    """Whether a session may prepare replies, and if not, whether that is because the rooms have fallen behind."""

    is_allowed: bool
    is_given_up: bool


_ALLOWED: Final = Allowance(is_allowed=True, is_given_up=False)


@dataclass(slots=True)
class _Tenant:
    prepared: int = 0
    overdrawn_tokens: float = 0.0
    overdrawn_s: float = 0.0
    told: Allowance = _ALLOWED
    members: list[Callable[[Allowance], None]] = field(default_factory=list)


class Rations:
    """All sessions of a replica share one. It belongs to the event loop, and nothing in it waits.

    Args:
        limits: what there is.
        clock: monotonic seconds.
    """

    def __init__(self, limits: RationLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._governor = Governor(max_level=limits.max_degradation)
        self._tenants: dict[str, _Tenant] = {}

    @property
    def level(self) -> int:
        """The governor's."""
        return self._governor.level

    @property
    def given_up(self) -> frozenset[Degradation]:
        """What replies do without now."""
        return self._governor.given_up

    @contextmanager
    def member(self, tenant: str, told: Callable[[Allowance], None]) -> Iterator[None]:
        """A session of the tenant is open: it is told what is not allowed now, and every change."""
        known = self._tenants.setdefault(tenant, _Tenant())
        known.members.append(told)
        known.told = self._allowance(known)
        if not known.told.is_allowed:
            told(known.told)
        try:
            yield
        finally:
            known.members.remove(told)
            self._forget()

    def prepare(self, tenant: str, count: int = 1) -> None:
        """So many more replies of the tenant are being prepared; fewer, where it is below 0."""
        known = self._tenants.setdefault(tenant, _Tenant())
        known.prepared += count
        self._tell(known)

    def waste(self, tenant: str, tokens: int) -> None:
        """A reply that was prepared was thrown away, and had cost so many tokens."""
        known = self._tenants.setdefault(tenant, _Tenant())
        known.overdrawn_tokens = self._overdrawn(known) + tokens
        known.overdrawn_s = self._clock()
        self._tell(known)

    def margin(self, margin_ms: float) -> None:
        """Samples of a reply came with so much audio left before its listener."""
        self._govern(observed(self._governor, self._clock(), margin_ms))

    def review(self) -> None:
        """Let what time has made possible be known; to be called every few seconds."""
        self._govern(reviewed(self._governor, self._clock()))
        for known in list(self._tenants.values()):
            self._tell(known)
        self._forget()

    def _govern(self, governor: Governor) -> None:
        before, self._governor = self._governor, governor
        if governor.given_up != before.given_up:
            for known in list(self._tenants.values()):
                self._tell(known)

    def _tell(self, known: _Tenant) -> None:
        allowance = self._allowance(known)
        if allowance != known.told:
            known.told = allowance
            for told in list(known.members):
                told(allowance)

    def _allowance(self, known: _Tenant) -> Allowance:
        is_given_up = Degradation.NO_SPECULATION in self.given_up
        has_place = known.prepared < self.limits.tenant_speculations
        has_tokens = self._overdrawn(known) < self.limits.tenant_wasted_tokens
        return Allowance(has_place and has_tokens and not is_given_up, is_given_up)

    def _overdrawn(self, known: _Tenant) -> float:
        """Tokens that were wasted and that time has not made good yet."""
        good = (self._clock() - known.overdrawn_s) * self.limits.tenant_wasted_tokens / _MINUTE_S
        return max(0.0, known.overdrawn_tokens - good)

    def _forget(self) -> None:
        """Let tenants go of whom nothing is known any more."""
        idle = [
            tenant
            for tenant, known in self._tenants.items()
            if not known.members and not known.prepared and not self._overdrawn(known)
        ]
        for tenant in idle:
            del self._tenants[tenant]


class Preparing:
    """The prepared replies of one session, as they are charged to its tenant.

    A reply holds its place while the rooms work on it. One that is complete holds none, and whether it was wasted is
    known when it is committed, or when the session begins another reply instead.
    """

    def __init__(self, rations: Rations, tenant: str) -> None:
        self._rations = rations
        self._tenant = tenant
        self._working: set[ReplyId] = set()
        self._complete: dict[ReplyId, int] = {}

    def begun(self, reply: ReplyId, *, is_prepared: bool) -> None:
        """A reply begins; what was prepared before it and is complete was for nothing."""
        for tokens in self._complete.values():
            self._rations.waste(self._tenant, tokens)
        self._complete.clear()
        if is_prepared:
            self._working.add(reply)
            self._rations.prepare(self._tenant)

    def committed(self, reply: ReplyId) -> None:
        """It is spoken now."""
        self._complete.pop(reply, None)
        self._leave(reply)

    def over(self, reply: ReplyId, work: ReplyWork, *, is_complete: bool) -> None:
        """The work on it is over: all is made, or it was stopped or failed."""
        if not self._leave(reply):
            return
        tokens = work.text_tokens + work.speech_tokens
        if is_complete:
            self._complete[reply] = tokens
        else:
            self._rations.waste(self._tenant, tokens)

    def _leave(self, reply: ReplyId) -> bool:
        is_working = reply in self._working
        if is_working:
            self._working.remove(reply)
            self._rations.prepare(self._tenant, -1)
        return is_working
