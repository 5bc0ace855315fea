"""Voices of tenants in Redis: `VoiceStore` of the ports.

A tenant's voices share one slot and one index, which every call first clears of what has expired; so counting, listing
and the limit are exact at any moment, and nothing has to run for it. The features of a voice lie under a key of their
own, which listing does not read.
"""

from collections.abc import Callable
from typing import Any, Final

from services.orchestrator.adapters.redis import schema, scripts
from services.orchestrator.adapters.redis.connect import Connection, Script, Word
from services.orchestrator.adapters.redis.keys import voice_keys
from services.orchestrator.ports.store import KeptVoice
from services.shared.errors import InvalidPageTokenError, RequestIdReusedError, TooManyVoicesError, VoiceNotFoundError

REQUEST_ID_S: Final = 24 * 3600
"""How long a request id counts: `VoiceService.CreateVoice` in voice.proto."""
_REMOVED_AT_MOST: Final = 1024
_MARGIN_S: Final = 60.0
"""How much longer than promised the server keeps a key: clocks of replicas differ by less."""


class RedisVoiceStore:
    """`VoiceStore` on a connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float],
        max_voices: int = 100,
        keep_s: float = 90 * 86_400.0,
    ) -> None:
        """Make it.

        Args:
            connection: to the store.
            clock: wall-clock seconds.
            max_voices: of one tenant.
            keep_s: how long a voice is kept after it spoke.
        """
        self._connection = connection
        self._clock = clock
        self._max_voices = max_voices
        self._keep_s = keep_s

    async def put(self, tenant: str, voice: KeptVoice, *, request_id: str, request_digest: str) -> KeptVoice:
        """Keep a voice; see the port."""
        about = schema.VoiceAbout(voice.display_name, voice.transcript, voice.clip_ms, voice.consent)
        keys = voice_keys(tenant)
        answer = await self._run(
            scripts.PUT_VOICE,
            (*keys.index, keys.features(voice.voice_id), keys.request(request_id)),
            voice.voice_id,
            schema.VOICE.write(about),
            repr(float(voice.created_s)),
            repr(float(voice.expire_s)),
            repr(_MARGIN_S),
            self._max_voices,
            request_digest if request_id else "",
            REQUEST_ID_S,
            schema.TOKENS.write(voice.tokens),
            voice.mel,
            voice.embedding,
        )
        if answer == b"reused":
            raise RequestIdReusedError("this request id made another voice", field="request_id", value=request_id)
        if answer == b"full":
            limit = str(self._max_voices)
            raise TooManyVoicesError(f"a tenant has {limit} voices at most; delete one", limit=limit)
        return _voice(voice.voice_id, answer)

    async def get(self, tenant: str, voice_id: str) -> KeptVoice:
        """Give a voice; see the port."""
        return await self._find(tenant, voice_id, "")

    async def use(self, tenant: str, voice_id: str) -> KeptVoice:
        """Give a voice that is going to speak; see the port."""
        return await self._find(tenant, voice_id, repr(self._clock() + self._keep_s))

    async def list(self, tenant: str, *, after: str, limit: int) -> tuple[KeptVoice, ...]:
        """Voices by time of making, without features; see the port."""
        answer = await self._run(scripts.LIST_VOICES, voice_keys(tenant).index, after, max(limit, 0))
        if answer == b"lost":
            raise InvalidPageTokenError("there is no voice to go on from", field="page_token")
        nothing = (schema.TOKENS.write(()), b"", b"")
        return tuple(_voice(voice_id.decode(), [*rest, *nothing]) for voice_id, *rest in answer)

    async def delete(self, tenant: str, voice_id: str) -> None:
        """Delete a voice; see the port."""
        keys = voice_keys(tenant)
        if await self._run(scripts.DELETE_VOICE, (*keys.index, keys.features(voice_id)), voice_id) == b"missing":
            raise VoiceNotFoundError(f"there is no voice {voice_id}", field="voice_id", value=voice_id)

    async def _find(self, tenant: str, voice_id: str, expire_s: str) -> KeptVoice:
        keys = voice_keys(tenant)
        names = (*keys.index, keys.features(voice_id))
        answer = await self._run(scripts.GET_VOICE, names, voice_id, expire_s, repr(_MARGIN_S))
        if answer == b"missing":
            raise VoiceNotFoundError(f"there is no voice {voice_id}", field="voice_id", value=voice_id)
        return _voice(voice_id, answer)

    async def _run(self, script: Script, keys: tuple[str, ...], *arguments: Word) -> Any:  # a word, or parts of voices
        return await self._connection.run(script, keys, (repr(self._clock()), _REMOVED_AT_MOST, *arguments))


def _voice(voice_id: str, parts: list[bytes]) -> KeptVoice:
    about, created, expiry, tokens, mel, embedding = parts
    told = schema.VOICE.read(about)
    return KeptVoice(
        voice_id=voice_id,
        display_name=told.display_name,
        transcript=told.transcript,
        clip_ms=told.clip_ms,
        tokens=schema.TOKENS.read(tokens),
        mel=mel,
        embedding=embedding,
        consent=told.consent,
        created_s=float(created),
        expire_s=float(expiry),
    )
