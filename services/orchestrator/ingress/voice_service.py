"""`VoiceService`: the voices that came with the model, and those that a tenant made from recordings.

    recording ─► decode, length, silence ─► consent ─► the rooms hear it ─► the store keeps tokens and features

A voice's id is drawn from its tenant and its content, so that the same recording with the same words gives the same
voice, and no tenant can name another one's.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from protos.gen.stepaudio.v1 import voice_pb2, voice_pb2_grpc
from services.orchestrator.ingress.calls import Context, caller
from services.orchestrator.ingress.clips import ClipLength, read_clip
from services.orchestrator.ingress.limits import LONGEST_REQUEST_ID, page_size, refusal
from services.orchestrator.ingress.paging import PageTokens
from services.orchestrator.ingress.records import milliseconds, timestamp
from services.orchestrator.ports.rooms import PreparedVoice, VoiceMaker
from services.orchestrator.ports.store import Consent, KeptVoice, VoiceStore
from services.shared.audio.files import Audio
from services.shared.errors import (
    ConsentRequiredError,
    InvalidInputError,
    NothingToSpeakError,
    TextTooLongError,
    VoiceIsBuiltInError,
    VoiceNotFoundError,
)
from services.shared.prompt.speech.tags import speakable
from services.shared.voices.registry import MAX_CLIP_S, MIN_CLIP_S

LONGEST_VOICE_ID: Final = 64
LONGEST_NAME: Final = 64
LONGEST_TRANSCRIPT: Final = 1024
LONGEST_SPEAKER: Final = 128
LONGEST_RECORD: Final = 256
CLOCK_SLACK_S: Final = 60.0
"""How far a caller's clock may be ahead before its consent lies in the future."""
STORE_S: Final = 5.0
MAKING_S: Final = 30.0

_BASES: Final[Mapping[int, str]] = MappingProxyType(
    {
        voice_pb2.CONSENT_BASIS_OWN_VOICE: "own_voice",
        voice_pb2.CONSENT_BASIS_SPEAKER_AGREED: "speaker_agreed",
        voice_pb2.CONSENT_BASIS_SYNTHETIC: "synthetic",
    }
)
_BASIS_NUMBERS: Final = {name: voice_pb2.ConsentBasis.ValueType(number) for number, name in _BASES.items()}
_KINDS: Final = (voice_pb2.VOICE_KIND_UNSPECIFIED, voice_pb2.VOICE_KIND_BUILT_IN, voice_pb2.VOICE_KIND_CLONED)

_audit = logging.getLogger("stepaudio.audit")


@dataclass(frozen=True, slots=True)
class BuiltInVoice:
    """A voice of the checkpoint, as it is told.

    Attributes:
        voice_id: its name.
        clip_ms: length of its recording.
        sings: whether it has recordings for singing and rap.
    """

    voice_id: str
    clip_ms: int
    sings: bool = False

    def message(self) -> voice_pb2.Voice:
        """As the API tells it."""
        return voice_pb2.Voice(
            voice_id=self.voice_id,
            display_name=self.voice_id,
            kind=voice_pb2.VOICE_KIND_BUILT_IN,
            clip_ms=self.clip_ms,
            sings=self.sings,
        )


class VoiceService(voice_pb2_grpc.VoiceServiceServicer):
    """Serves voices.

    Args:
        built_in: those of the checkpoint, in the order in which they are listed.
        store: of the tenants' own.
        maker: the rooms that make one.
        pages: gives and reads page tokens.
        lifetime_s: how long a voice is kept that nobody speaks with.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        built_in: Sequence[BuiltInVoice],
        store: VoiceStore,
        maker: VoiceMaker,
        pages: PageTokens,
        *,
        lifetime_s: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._built_in = {voice.voice_id: voice for voice in built_in}
        self._store = store
        self._maker = maker
        self._pages = pages
        self._lifetime_s = lifetime_s
        self._wall_clock = wall_clock

    async def CreateVoice(  # noqa: N802  # the generated name
        self, request: voice_pb2.CreateVoiceRequest, context: Context
    ) -> voice_pb2.CreateVoiceResponse:
        """Make a voice from a recording."""
        tenant = caller().tenant
        _check_names(request)
        consent = self._checked_consent(request)
        length = ClipLength(MIN_CLIP_S, MAX_CLIP_S)
        clip = await read_clip(request.clip, "clip", length)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        async with asyncio.timeout(MAKING_S):
            prepared = await self._maker.prepare(
                _voice_id(tenant, request),
                speaker="",
                transcript=request.transcript,
                samples=clip.samples,
                sample_rate_hz=clip.sample_rate_hz,
            )
        voice = self._kept(prepared, request.display_name, clip, consent)
        async with asyncio.timeout(STORE_S):
            kept = await self._store.put(tenant, voice, request_id=request.request_id, request_digest=digest)
        told = {"tenant": tenant, "voice_id": kept.voice_id, "basis": consent.basis, "speaker": consent.speaker_name}
        _audit.info("voice_made", extra=told | {"record": consent.record, "consent_s": consent.consent_s})
        return voice_pb2.CreateVoiceResponse(voice=_voice_message(kept))

    async def ListVoices(  # noqa: N802  # the generated name
        self, request: voice_pb2.ListVoicesRequest, context: Context
    ) -> voice_pb2.ListVoicesResponse:
        """List voices, a page at a time: built-in ones first."""
        tenant, limit = caller().tenant, page_size(request.page_size)
        if request.kind not in _KINDS:
            raise refusal(InvalidInputError, "kind", str(request.kind), "a kind of voice, or none for all")
        scope = ("voices", tenant, str(request.kind))
        shown, after = self._cursor(scope, request.page_token)
        voices = []
        if request.kind != voice_pb2.VOICE_KIND_CLONED:
            voices = [voice.message() for voice in list(self._built_in.values())[shown : shown + limit + 1]]
        if request.kind != voice_pb2.VOICE_KIND_BUILT_IN and len(voices) <= limit:
            async with asyncio.timeout(STORE_S):
                kept = await self._store.list(tenant, after=after, limit=limit + 1 - len(voices))
            voices += map(_voice_message, kept)
        response = voice_pb2.ListVoicesResponse(voices=voices[:limit])
        if len(voices) > limit:
            last = response.voices[-1]
            is_built_in = last.kind == voice_pb2.VOICE_KIND_BUILT_IN
            cursor = f"{shown + limit}:" if is_built_in else f"{len(self._built_in)}:{last.voice_id}"
            response.next_page_token = self._pages.issue(scope, cursor)
        return response

    async def GetVoice(  # noqa: N802  # the generated name
        self, request: voice_pb2.GetVoiceRequest, context: Context
    ) -> voice_pb2.GetVoiceResponse:
        """Tell about one voice."""
        built_in = self._built_in.get(request.voice_id)
        if built_in is not None:
            return voice_pb2.GetVoiceResponse(voice=built_in.message())
        async with asyncio.timeout(STORE_S):
            kept = await self._store.get(caller().tenant, _known_form(request.voice_id))
        return voice_pb2.GetVoiceResponse(voice=_voice_message(kept))

    async def DeleteVoice(  # noqa: N802  # the generated name
        self, request: voice_pb2.DeleteVoiceRequest, context: Context
    ) -> voice_pb2.DeleteVoiceResponse:
        """Delete one of the tenant's own."""
        tenant, voice_id = caller().tenant, request.voice_id
        if voice_id in self._built_in:
            raise VoiceIsBuiltInError(f"the voice {voice_id!r} is built in and stays", value=voice_id)
        async with asyncio.timeout(STORE_S):
            await self._store.delete(tenant, _known_form(voice_id))
        _audit.info("voice_deleted", extra={"tenant": tenant, "voice_id": voice_id})
        return voice_pb2.DeleteVoiceResponse()

    def _cursor(self, scope: tuple[str, ...], token: str) -> tuple[int, str]:
        """How many built-in voices were listed, and behind which of the tenant's own the list goes on."""
        if not token:
            return 0, ""
        shown, _, after = self._pages.read(scope, token).partition(":")
        return int(shown), after

    def _checked_consent(self, request: voice_pb2.CreateVoiceRequest) -> Consent:
        """Read the speaker's agreement.

        Raises:
            ConsentRequiredError: it is not there, or not whole.
            InvalidInputError: it is too long, or was given in the future.
        """
        given = request.consent
        basis = _BASES.get(given.basis)
        if basis is None:
            raise _no_consent("consent.basis", "on what the agreement rests")
        if not given.speaker_name.strip():
            raise _no_consent("consent.speaker_name", "who speaks")
        if not given.record.strip() and given.basis != voice_pb2.CONSENT_BASIS_OWN_VOICE:
            raise _no_consent("consent.record", "where the record of the agreement is kept")
        if not given.HasField("consent_time"):
            raise _no_consent("consent.consent_time", "when the speaker agreed")
        for name, text, longest in (
            ("speaker_name", given.speaker_name, LONGEST_SPEAKER),
            ("record", given.record, LONGEST_RECORD),
        ):
            if len(text) > longest:
                limit = f"at most {longest} characters"
                raise refusal(InvalidInputError, f"consent.{name}", f"{len(text)} characters", limit)
        consent_s = given.consent_time.seconds + given.consent_time.nanos / 1e9
        if not 0 <= consent_s <= self._wall_clock() + CLOCK_SLACK_S:
            value = f"{consent_s:.0f} s after 1970"
            raise refusal(InvalidInputError, "consent.consent_time", value, "a time in the past")
        return Consent(basis, given.speaker_name, given.record, consent_s)

    def _kept(self, voice: PreparedVoice, display_name: str, clip: Audio, consent: Consent) -> KeptVoice:
        now_s = self._wall_clock()
        return KeptVoice(
            voice_id=voice.voice_id,
            display_name=display_name,
            transcript=voice.transcript,
            clip_ms=milliseconds(clip.duration_s),
            tokens=voice.tokens,
            mel=np.ascontiguousarray(voice.mel, "<f4").tobytes(),
            embedding=np.ascontiguousarray(voice.embedding, "<f4").tobytes(),
            consent=consent,
            created_s=now_s,
            expire_s=now_s + self._lifetime_s,
        )


def _check_names(request: voice_pb2.CreateVoiceRequest) -> None:
    if len(request.request_id) > LONGEST_REQUEST_ID:
        value, limit = f"{len(request.request_id)} characters", f"at most {LONGEST_REQUEST_ID} characters"
        raise refusal(InvalidInputError, "request_id", value, limit)
    if not request.display_name.strip() or len(request.display_name) > LONGEST_NAME:
        value, limit = f"{len(request.display_name)} characters", f"1 to {LONGEST_NAME} characters"
        raise refusal(InvalidInputError, "display_name", value, limit)
    if len(request.transcript) > LONGEST_TRANSCRIPT:
        value, limit = f"{len(request.transcript)} characters", f"1 to {LONGEST_TRANSCRIPT} characters"
        raise refusal(TextTooLongError, "transcript", value, limit)
    if not speakable(request.transcript):
        raise refusal(NothingToSpeakError, "transcript", "without any letter or digit", "what the recording says")


def _no_consent(field: str, what: str) -> ConsentRequiredError:
    return ConsentRequiredError(f"{field} has to say {what}; without it no voice is made", field=field)


def _known_form(voice_id: str) -> str:
    if not 1 <= len(voice_id) <= LONGEST_VOICE_ID:
        raise VoiceNotFoundError("no voice has such an id", field="voice_id")
    return voice_id


def _voice_id(tenant: str, request: voice_pb2.CreateVoiceRequest) -> str:
    content = (
        tenant.encode(),
        request.transcript.encode(),
        request.clip.format.SerializeToString(deterministic=True),
        request.clip.data,
    )
    digest = hashlib.sha256()
    for part in content:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"voice-{digest.hexdigest()[:32]}"


def _voice_message(voice: KeptVoice) -> voice_pb2.Voice:
    return voice_pb2.Voice(
        voice_id=voice.voice_id,
        display_name=voice.display_name,
        kind=voice_pb2.VOICE_KIND_CLONED,
        clip_ms=voice.clip_ms,
        consent=voice_pb2.VoiceConsent(
            basis=_BASIS_NUMBERS[voice.consent.basis],
            speaker_name=voice.consent.speaker_name,
            record=voice.consent.record,
            consent_time=timestamp(voice.consent.consent_s),
        ),
        create_time=timestamp(voice.created_s),
        expire_time=timestamp(voice.expire_s),
    )
