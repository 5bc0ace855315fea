"""Who calls, and how much at once: credentials to tenants, and the limits of each tenant.

    authorization: Bearer <token>  ┐
    x-api-key: <token>             ├─ SHA-256 ─► table of digests ─► tenant
    a client's TLS certificate     ┘  subject ─► table of subjects ─► tenant

Tokens are never kept: the table has their digests, and a digest is compared with every one of the table in constant
time. A token that was sent decides, also where a certificate came too. Knows no call and no message.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.shared.errors import QuotaExceededError, UnauthenticatedError

AUTHORIZATION: Final = "authorization"
API_KEY: Final = "x-api-key"
BEARER: Final = "bearer "
LOCAL_TENANT: Final = "default"
COMMON_NAME: Final = "x509_common_name"
ALTERNATIVE_NAME: Final = "x509_subject_alternative_name"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a call is for."""

    tenant: str


@dataclass(frozen=True, slots=True)
class Tenants:
    """The credentials that are known.

    Attributes:
        required: without it every caller is the tenant "default", as local use has it.
        token_digests: SHA-256 of a token in lower-case hex -> tenant.
        subjects: common name or subject alternative name of a client's certificate -> tenant.
    """

    required: bool = False
    token_digests: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)

    def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: Mapping[str, Iterable[bytes]]) -> Caller:
        """Say who calls.

        Args:
            metadata: of the call; its keys are lower case.
            peer: what TLS proved of the client, by property; empty without a certificate.

        Raises:
            UnauthenticatedError: nothing came, or nothing known.
        """
        if not self.required:
            return Caller(LOCAL_TENANT)
        tokens = tuple(_tokens(metadata))
        if tokens:
            tenants = {self._tenant_of(token) for token in tokens}
            tenant = tenants.pop() if len(tenants) == 1 else None
            if tenant is None:
                raise UnauthenticatedError("the token or key is not valid; use one that was given to you")
            return Caller(tenant)
        for name in (*peer.get(COMMON_NAME, ()), *peer.get(ALTERNATIVE_NAME, ())):
            subject = self.subjects.get(name.decode("utf-8", "replace"))
            if subject is not None:
                return Caller(subject)
        raise UnauthenticatedError("no token, key or known certificate came; send `authorization: Bearer` or x-api-key")

    def _tenant_of(self, token: bytes) -> str | None:
        digest = hashlib.sha256(token).hexdigest()
        found: str | None = None
        for known, tenant in self.token_digests.items():
            if hmac.compare_digest(known, digest):
                found = tenant
        return found


def _tokens(metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[bytes]:
    for key, value in metadata:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if key == AUTHORIZATION:
            is_bearer = raw[: len(BEARER)].lower() == BEARER.encode()
            yield raw[len(BEARER) :].strip() if is_bearer else b""
        elif key == API_KEY:
            yield raw.strip()


class Kind(StrEnum):
    """What is counted for a tenant, and the name of its limit."""

    CONVERSATION = "max_conversations"
    CALL = "max_calls"


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """How much one tenant may have open at once.

    Attributes:
        max_conversations: streams of `Converse`.
        max_calls: all other calls.
    """

    max_conversations: int = 100
    max_calls: int = 100


class Admissions:
    """Counts what is open, tenant by tenant; used from one event loop."""

    def __init__(self, limits: TenantLimits) -> None:
        self._limits = {Kind.CONVERSATION: limits.max_conversations, Kind.CALL: limits.max_calls}
        self._open: Counter[tuple[str, Kind]] = Counter()

    @contextmanager
    def admit(self, caller: Caller, kind: Kind) -> Iterator[None]:
        """Count one call while it runs.

        Raises:
            QuotaExceededError: the tenant has as many open as it may.
        """
        key, limit = (caller.tenant, kind), self._limits[kind]
        if self._open[key] >= limit:
            raise QuotaExceededError(f"{limit} are open already; end one first", limit=kind.value, value=str(limit))
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @property
    def open_count(self) -> dict[Kind, int]:
        """How many are open, of all tenants, by kind; empty when none is."""
        counts: Counter[Kind] = Counter()
        for (_, kind), count in self._open.items():
            counts[kind] += count
        return dict(counts)
