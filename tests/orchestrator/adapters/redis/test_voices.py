"""What every store of voices does, in memory and in Redis alike."""

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.ports.store import KeptVoice
from services.shared.errors import (
    InvalidPageTokenError,
    RequestIdReusedError,
    TooManyVoicesError,
    VoiceNotFoundError,
)
from tests.orchestrator.adapters.redis.conftest import KEEP_VOICE_S, MAX_VOICES, Stores, World
from tests.orchestrator.adapters.redis.values import told, voice

pytestmark = pytest.mark.contract


async def put(stores: Stores, one: KeptVoice, request_id: str = "", digest: str = "d") -> KeptVoice:
    return await stores.voices.put(stores.tenant, one, request_id=request_id, request_digest=digest)


async def listed(stores: Stores, after: str = "", limit: int = 10) -> list[str]:
    return [one.voice_id for one in await stores.voices.list(stores.tenant, after=after, limit=limit)]


def test_a_voice_is_read_as_it_was_made_consent_and_features_too(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        made = voice("v:1/{x}")
        assert told(await put(stores, made)) == told(made)
        assert told(await stores.voices.get(stores.tenant, made.voice_id)) == told(made)

    world.run(scenario)


def test_a_listing_leaves_the_features_out(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        await put(stores, voice("v1"))
        (one,) = await stores.voices.list(stores.tenant, after="", limit=5)
        assert told(one) == told(replace(voice("v1"), tokens=(), mel=b"", embedding=b""))

    world.run(scenario)


def test_the_same_content_again_is_the_same_voice_with_the_new_name(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        await put(stores, voice("v1"))
        await put(stores, voice("v2"))
        stores.clock.pass_s(100)
        again = await put(stores, voice("v1", created_s=stores.clock(), name="Ada again"))
        assert (again.display_name, again.created_s) == ("Ada again", voice("v1").created_s)
        assert again.expire_s == stores.clock() + KEEP_VOICE_S
        assert await listed(stores) == ["v1", "v2"]

    world.run(scenario)


def test_a_request_id_gives_the_voice_made_then_for_a_day(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        await put(stores, voice("v1", keep_s=1e6), "request", "d1")
        stores.clock.pass_s(86_399)
        assert (await put(stores, voice("v1", name="other"), "request", "d1")).display_name == "Ada"
        with pytest.raises(RequestIdReusedError):
            await put(stores, voice("v2"), "request", "d2")
        stores.clock.pass_s(1)
        assert (await put(stores, voice("v2", created_s=stores.clock()), "request", "d2")).voice_id == "v2"
        assert await listed(stores) == ["v1", "v2"]

    world.run(scenario)


def test_a_request_whose_voice_was_deleted_makes_it_anew(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        await put(stores, voice("v1"), "request")
        await stores.voices.delete(stores.tenant, "v1")
        await put(stores, voice("v1", name="anew"), "request")
        assert (await stores.voices.get(stores.tenant, "v1")).display_name == "anew"

    world.run(scenario)


def test_a_tenant_has_only_so_many_voices_and_may_put_one_of_them_again(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        for number in range(MAX_VOICES):
            await put(stores, voice(f"v{number}"))
        with pytest.raises(TooManyVoicesError) as refusal:
            await put(stores, voice("one more"))
        assert refusal.value.details["limit"] == str(MAX_VOICES)
        await put(stores, voice("v0"))
        await stores.voices.delete(stores.tenant, "v1")
        await put(stores, voice("one more"))

    world.run(scenario)


def test_many_at_once_do_not_pass_the_limit(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        async def try_one(number: int) -> bool:
            try:
                await put(stores, voice(f"v{number}"))
            except TooManyVoicesError:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(try_one(number)) for number in range(20)]
        assert sum(one.result() for one in tries) == MAX_VOICES
        assert len(await listed(stores)) == MAX_VOICES

    world.run(scenario)


def test_a_voice_nobody_speaks_with_expires_and_makes_room(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        for number in range(MAX_VOICES):
            await put(stores, voice(f"v{number}", keep_s=100))
        stores.clock.pass_s(60)
        used = await stores.voices.use(stores.tenant, "v1")
        assert used.expire_s == stores.clock() + KEEP_VOICE_S
        await stores.voices.get(stores.tenant, "v2")  # looking at it is no use of it
        stores.clock.pass_s(40)
        for gone in ("v0", "v2"):
            for call in (
                stores.voices.get(stores.tenant, gone),
                stores.voices.use(stores.tenant, gone),
                stores.voices.delete(stores.tenant, gone),
            ):
                with pytest.raises(VoiceNotFoundError):
                    await call
        assert await listed(stores) == ["v1"]
        await put(stores, voice("new", created_s=stores.clock()))

    world.run(scenario)


def test_pages_go_on_behind_a_voice_even_when_it_is_gone(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        for number in range(MAX_VOICES):
            await put(stores, voice(f"v{9 - number}"))
        assert await listed(stores, limit=1) == ["v9"]
        await stores.voices.delete(stores.tenant, "v9")
        assert await listed(stores, after="v9", limit=1) == ["v8"]
        stores.clock.now_s = voice("v8").created_s - 50  # a replica whose clock is behind
        await put(stores, voice("late", created_s=stores.clock()))
        assert await listed(stores, after="v8") == ["v7", "late"]
        assert await listed(stores, after="late") == []
        assert await listed(stores, limit=0) == []
        with pytest.raises(InvalidPageTokenError):
            await listed(stores, after="never")

    world.run(scenario)


def test_another_tenant_has_its_own_voices(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        await put(stores, voice("v1"))
        for tenant in ("other", "", f"{stores.tenant}/", stores.tenant.upper()):
            with pytest.raises(VoiceNotFoundError):
                await stores.voices.get(tenant, "v1")
            with pytest.raises(VoiceNotFoundError):
                await stores.voices.delete(tenant, "v1")
            assert await stores.voices.list(tenant, after="", limit=5) == ()
        assert await listed(stores) == ["v1"]

    world.run(scenario)
