"""Finding the voice that a reply is spoken with: a built-in one, or one of the tenant's own from the store."""

import numpy as np

from services.orchestrator.ports.rooms import BuiltInVoices, PreparedVoice
from services.orchestrator.ports.store import KeptVoice, VoiceStore
from services.shared.errors import VoiceNotFoundError

_MEL_CHANNELS = 80


class VoiceBook:
    """All voices of this server.

    Args:
        built_in: the checkpoint's.
        store: the tenants' own; None where none are kept.
    """

    def __init__(self, built_in: BuiltInVoices, store: VoiceStore | None) -> None:
        self._built_in = built_in
        self._store = store

    async def find(self, tenant: str, voice_id: str) -> PreparedVoice:
        """Give the voice that is going to speak; of a tenant's own voice this puts the expiry off.

        Args:
            tenant: whose own voices are looked at.
            voice_id: of a built-in or own voice; empty for the default one.

        Raises:
            VoiceNotFoundError: no such voice of this tenant.
            RoomUnavailableError, DeadlineExceededError: the store or a room does not answer.
        """
        voice_id = voice_id or self._built_in.default_name
        if voice_id in self._built_in.names:
            return await self._built_in.get(voice_id)
        if self._store is None:
            raise VoiceNotFoundError(f"no voice {voice_id!r} is known", value=voice_id)
        return prepared(await self._store.use(tenant, voice_id))


def prepared(voice: KeptVoice) -> PreparedVoice:
    """A kept voice as the rooms take it: a clone, which the speech model knows by no name."""
    mel = np.frombuffer(voice.mel, "<f4").reshape(-1, _MEL_CHANNELS)
    embedding = np.frombuffer(voice.embedding, "<f4")
    return PreparedVoice(voice.voice_id, "", voice.transcript, voice.tokens, mel, embedding)
