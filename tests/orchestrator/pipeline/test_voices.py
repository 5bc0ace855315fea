"""Voices are found by id: the checkpoint's, the default one, and a tenant's own, which nobody else has."""

import asyncio

import numpy as np
import pytest

from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.store import Consent, KeptVoice
from services.shared.errors import VoiceNotFoundError
from tests.fakes.rooms import FakeRooms
from tests.fakes.store import FakeVoiceStore, WallClock

pytestmark = pytest.mark.unit

MEL = np.arange(3 * 80, dtype=np.float32).reshape(3, 80)
EMBEDDING = np.arange(192, dtype=np.float32)
KEPT = KeptVoice(
    voice_id="mine",
    display_name="Mine",
    transcript="Hello.",
    clip_ms=3000,
    tokens=(1, 2, 1024, 1025, 1026),
    mel=MEL.astype("<f4").tobytes(),
    embedding=EMBEDDING.astype("<f4").tobytes(),
    consent=Consent("synthetic", "nobody", "made up", 0.0),
    created_s=0.0,
    expire_s=2e9,
)


def test_a_tenants_own_voice_comes_with_its_features_and_only_to_the_tenant() -> None:
    async def main() -> None:
        store = FakeVoiceStore(clock=WallClock())
        await store.put("tenant", KEPT, request_id="", request_digest="")
        book = VoiceBook(FakeRooms().rooms.built_in, store)
        voice = await book.find("tenant", "mine")
        assert (voice.speaker, voice.transcript, voice.tokens) == ("", "Hello.", KEPT.tokens)
        assert np.array_equal(voice.mel, MEL)
        assert np.array_equal(voice.embedding, EMBEDDING)
        with pytest.raises(VoiceNotFoundError):
            await book.find("another", "mine")

    asyncio.run(main())


def test_no_id_is_the_default_voice() -> None:
    async def main() -> None:
        built_in = FakeRooms().rooms.built_in
        book = VoiceBook(built_in, None)
        assert (await book.find("tenant", "")).voice_id == built_in.default_name
        assert (await book.find("tenant", built_in.names[-1])).voice_id == built_in.names[-1]
        with pytest.raises(VoiceNotFoundError):
            await book.find("tenant", "mine")

    asyncio.run(main())
