"""What the sessions of a replica may spend: replies prepared ahead, by tenant, and quality, by the rooms' slack.

    reply prepared ──begun──> held by its tenant ──freed, with the tokens that were wasted──> the tenant's minute
    samples came   ──margin─> the governor
                                   └── either changes what is allowed ──> every session that it concerns is told

A tenant may prepare so many replies at once and waste so many tokens a minute. A minute's tokens are a bucket that
fills evenly; one that is overdrawn allows nothing until it has filled up again. Budgets are of one replica, as its
limits of sessions are. It decides nothing about turns: it tells, and the conversation's core withholds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from services.orchestrator.conversation.governor import POLICY, Governor, observed, reviewed
from services.orchestrator.conversation.record import Degradation

_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RationLimits:
    """What there is to spend on one replica.

    Attributes:
        tenant_speculations: replies that one tenant may have prepared at once; 0 prepares none.
        tenant_wasted_tokens: of prepared replies thrown away, that one tenant may have generated in a minute.
        max_degradation: levels of the governor, 0 to 3.
        fewer_flow_steps: that a pass of the vocoder takes when it is to take fewer.
        smaller_hop_ms: of audio that a reply's first samples wait for when they are to wait for less,
        smaller_chunk_ms: … and of speech.
    """

    tenant_speculations: int = 16
    tenant_wasted_tokens: int = 60_000
    max_degradation: int = len(POLICY)
    fewer_flow_steps: int = 4
    smaller_hop_ms: int = 150
    smaller_chunk_ms: int = 480


class Allowance(NamedTuple):
    """Whether a session may prepare replies, and if not, whether that is because the rooms have fallen behind."""

    is_allowed: bool
    is_given_up: bool


@dataclass(slots=True)
class _Tenant:
    prepared: int = 0
    overdrawn_tokens: float = 0.0
    overdrawn_s: float = 0.0
    told: Allowance = Allowance(is_allowed=True, is_given_up=False)
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

    def prepare(self, tenant: str) -> Callable[[int], None]:
        """A reply of the tenant is being prepared.

        Returns:
            to be called once: it is spoken now (0), or was thrown away and has cost so many tokens.
        """
        known = self._tenants.setdefault(tenant, _Tenant())
        known.prepared += 1
        self._tell(known)

        def freed(wasted_tokens: int) -> None:
            known.prepared -= 1
            known.overdrawn_tokens = self._overdrawn(known) + wasted_tokens
            known.overdrawn_s = self._clock()
            self._tell(known)

        return freed

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


def unlimited(clock: Callable[[], float]) -> Rations:
    """Rations that never give anything up, for replies of no conversation."""
    return Rations(replace(RationLimits(), max_degradation=0), clock)
