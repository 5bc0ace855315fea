"""What outlives a process: sessions with their turns, and the voices of tenants.

A session has one owner at a time. The lease of an owner carries a fencing token that grows with every take-over; every
write is made with the lease, and one that is not the newest is refused, so that an owner that was thought dead writes
nothing any more. What is written here is text, numbers and bytes of an agreed schema, never code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, Origin, Outcome, ReplyBasis, ToolExchange, TurnMetrics


@dataclass(frozen=True, slots=True)
class StreamFormats:
    """The client's formats, as it named them: encoding (lower case, e.g. "pcm16") and rate of both directions."""

    input_encoding: str
    input_rate_hz: int
    reply_encoding: str
    reply_rate_hz: int
    reply_chunk_ms: int = 0


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be kept; times are wall-clock seconds since 1970."""

    tenant: str
    session_id: str
    formats: StreamFormats
    options: Options
    history: tuple[Message, ...]
    labels: Mapping[str, str]
    created_s: float
    retention_s: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a session until it is taken over or runs out.

    Attributes:
        tenant, session_id: which session.
        fence: grows with every take-over.
        owner: name of the replica.
    """

    tenant: str
    session_id: str
    fence: int
    owner: str


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A committed turn; times are wall-clock seconds. It never changes."""

    number: int
    origin: Origin
    user_text: str
    agent_text: str
    outcome: Outcome
    start_s: float
    end_s: float
    metrics: TurnMetrics
    request_id: str = ""
    tool_exchanges: tuple[ToolExchange, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """The turn under way, as far as a resume elsewhere needs it.

    Attributes:
        number, epoch, origin, request_id, user_text, agent_text: as `SaveOpenTurn` has them.
        basis: from which its reply goes on; None where it cannot.
        written: the reply's text as the chat model gave it, style tags included.
        is_written: no more text comes.
        tokens: of the utterance that the reply answers, until its words are known.
    """

    number: int
    epoch: int
    origin: Origin
    request_id: str
    user_text: str
    agent_text: str
    basis: ReplyBasis | None = None
    written: str = ""
    is_written: bool = False
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session as it is kept.

    Attributes:
        state: "live", "detached" or "ended".
        epoch: the newest.
        sequence: an upper bound of the events' numbers that were given out.
        input_sample: of the user's audio at 16 kHz that is dealt with.
        turn_count: committed turns.
        expire_s: when it is deleted; None while it is live.
    """

    tenant: str
    session_id: str
    state: str
    formats: StreamFormats
    options: Options
    history: tuple[Message, ...]
    labels: Mapping[str, str]
    created_s: float
    active_s: float
    expire_s: float | None
    retention_s: int
    epoch: int
    sequence: int
    input_sample: int
    turn_count: int


@dataclass(frozen=True, slots=True)
class Resumption:
    """All that a new owner gets: the lease, the session, its turns in order, and the turn that was under way."""

    lease: Lease
    session: KeptSession
    turns: tuple[KeptTurn, ...]
    open_turn: OpenTurn | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session has come; written with every renewal of its lease."""

    epoch: int
    sequence: int
    input_sample: int
    attached: bool


class SessionStore(Protocol):
    """Sessions. Methods raise RoomUnavailableError where the store does not answer."""

    async def create(self, session: NewSession, *, owner: str, token_digest: str) -> Lease:
        """Keep a new session; the digest is of its first resume token.

        The same call again gives the same lease as long as nothing else happened; another use of the id is a
        StepAudioError.
        """

    async def resume(self, tenant: str, session_id: str, *, owner: str, token_digest: str) -> Resumption:
        """Take a session over with one of its valid tokens.

        Raises:
            SessionNotFoundError, InvalidResumeTokenError, SessionEndedError: as they say.
        """

    async def add_token(self, lease: Lease, token_digest: str) -> None:
        """Let a new resume token be valid beside the one before it. Raises SessionTakenOverError."""

    async def confirm_token(self, lease: Lease, token_digest: str) -> None:
        """The client has this token: the ones before it are void. Raises SessionTakenOverError."""

    async def renew(self, lease: Lease, progress: Progress) -> None:
        """Prove that the owner lives, and say how far it has come.

        Raises:
            SessionTakenOverError: a newer owner has it.
            SessionDeletedError: it was deleted, or is older than anything that is kept.
            SessionEndedError: this owner has ended it.
        """

    async def save_options(self, lease: Lease, options: Options) -> None:
        """Keep the options now in force. Raises as `renew`."""

    async def save_open_turn(self, lease: Lease, turn: OpenTurn) -> None:
        """Keep what is known of the turn under way; of a turn that is committed, nothing. Raises as `renew`."""

    async def commit_turn(self, lease: Lease, turn: KeptTurn) -> None:
        """Keep a turn for good and drop it as the open one; another commit of its number changes nothing.

        Raises:
            SessionTooLongError: the session has as many turns as one may have.
            StepAudioError: the turn before it was not committed; and as `renew`.
        """

    async def end(self, lease: Lease) -> None:
        """The session is over; it can be read for its retention, or is deleted if that is 0. Raises as `renew`."""

    async def get(self, tenant: str, session_id: str) -> KeptSession:
        """Look at a session. Raises SessionNotFoundError."""

    async def turns(self, tenant: str, session_id: str, *, after: int, limit: int) -> tuple[KeptTurn, ...]:
        """Committed turns with numbers above `after`, in order. Raises SessionNotFoundError."""

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete a session with all its turns, for good; its owner learns of it. Raises SessionNotFoundError."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A speaker's agreement: basis ("own_voice", "speaker_agreed", "synthetic"), name, record, when (wall clock)."""

    basis: str
    speaker_name: str
    record: str
    consent_s: float


@dataclass(frozen=True, slots=True, eq=False)
class KeptVoice:
    """A tenant's own voice.

    Attributes:
        voice_id: from the tenant and the content: the same clip and transcript give the same id.
        display_name: for people.
        transcript: what the clip says.
        clip_ms: length of the clip.
        tokens: codec values of the clip.
        mel, embedding: the clip's features as little-endian float32 bytes: [T, 80] and [192].
        consent: the speaker's.
        created_s, expire_s: wall clock; it is deleted at `expire_s` if nobody speaks with it until then.
    """

    voice_id: str
    display_name: str
    transcript: str
    clip_ms: int
    tokens: tuple[int, ...]
    mel: bytes
    embedding: bytes
    consent: Consent
    created_s: float
    expire_s: float


class VoiceStore(Protocol):
    """Voices of tenants. Methods raise RoomUnavailableError where the store does not answer."""

    async def put(self, tenant: str, voice: KeptVoice, *, request_id: str, request_digest: str) -> KeptVoice:
        """Keep a voice and give the kept one: with a request id of the last 24 h the one made then.

        A voice that is there already keeps its place and time of making, and takes the new name and consent.

        Raises:
            RequestIdReusedError: that id came with another digest.
            TooManyVoicesError: the tenant's limit is reached.
        """

    async def get(self, tenant: str, voice_id: str) -> KeptVoice:
        """Give a voice. Raises VoiceNotFoundError."""

    async def use(self, tenant: str, voice_id: str) -> KeptVoice:
        """Give a voice that is going to speak, and put its expiry off. Raises VoiceNotFoundError."""

    async def list(self, tenant: str, *, after: str, limit: int) -> tuple[KeptVoice, ...]:
        """Voices by time of making, from behind the voice `after` (empty: from the first), without their features.

        What is made meanwhile comes last, and `after` may have been deleted meanwhile. `tokens`, `mel` and `embedding`
        are empty: a page of them would be large, and nobody who lists voices needs them.

        Raises:
            InvalidPageTokenError: there was no such voice, or it has been gone for long.
        """

    async def delete(self, tenant: str, voice_id: str) -> None:
        """Delete a voice. Raises VoiceNotFoundError."""
