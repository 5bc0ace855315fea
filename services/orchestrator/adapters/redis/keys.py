"""Names of keys. All keys that one script touches carry the same hash tag, so they live in one slot of a Cluster.

    stepaudio:{TENANT/SESSION}:session    hash     everything of a session but its turns
    stepaudio:{TENANT/SESSION}:turns      list     committed turns, the first is turn 1
    stepaudio:{TENANT/SESSION}:tokens     list     digests of the resume tokens that are valid, oldest first
    stepaudio:{TENANT/}:voices            hash     what is told about each voice
    stepaudio:{TENANT/}:voice_order       zset     its position: by time of making
    stepaudio:{TENANT/}:voice_expiry      zset     when it is deleted
    stepaudio:{TENANT/}:voice_removed     zset     positions of the latest that are gone, for paging
    stepaudio:{TENANT/}:voice_count       counter  the last position
    stepaudio:{TENANT/}:voice:VOICE       hash     its features
    stepaudio:{TENANT/}:request:REQUEST   hash     what a request id made

Tenants and ids are percent-encoded but for letters, digits and `_.-~`: none of them can hold a brace, a slash or a
colon, so no name of one tenant is another's key, whatever it is called. Nothing selects a database or lists keys.
"""

from dataclasses import dataclass
from urllib.parse import quote

from services.shared.errors import InvalidInputError

_PREFIX = "stepaudio"


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Of one session."""

    session: str
    turns: str
    tokens: str

    @property
    def all(self) -> tuple[str, str, str]:
        """In the order in which scripts take them."""
        return (self.session, self.turns, self.tokens)


@dataclass(frozen=True, slots=True)
class VoiceKeys:
    """Of one tenant's voices."""

    voices: str
    order: str
    expiry: str
    removed: str
    count: str
    tag: str

    @property
    def index(self) -> tuple[str, str, str, str, str]:
        """In the order in which scripts take them."""
        return (self.voices, self.order, self.expiry, self.removed, self.count)

    def features(self, voice_id: str) -> str:
        """Of one voice."""
        return f"{self.tag}:voice:{_escape(voice_id)}"

    def request(self, request_id: str) -> str:
        """Of one request id."""
        return f"{self.tag}:request:{_escape(request_id)}"


def session_keys(tenant: str, session_id: str) -> SessionKeys:
    """The keys of a session.

    Raises:
        InvalidInputError: a name is no text that UTF-8 can write.
    """
    tag = f"{_PREFIX}:{{{_escape(tenant)}/{_escape(session_id)}}}"
    return SessionKeys(f"{tag}:session", f"{tag}:turns", f"{tag}:tokens")


def voice_keys(tenant: str) -> VoiceKeys:
    """The keys of a tenant's voices. Raises as `session_keys`."""
    tag = f"{_PREFIX}:{{{_escape(tenant)}/}}"
    return VoiceKeys(
        voices=f"{tag}:voices",
        order=f"{tag}:voice_order",
        expiry=f"{tag}:voice_expiry",
        removed=f"{tag}:voice_removed",
        count=f"{tag}:voice_count",
        tag=tag,
    )


def _escape(name: str) -> str:
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as error:
        raise InvalidInputError("a name holds half a character", value=ascii(name)) from error
