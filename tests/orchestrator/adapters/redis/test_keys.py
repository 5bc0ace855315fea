"""All keys of a session, and all of a tenant's voices, are in one slot; and no name reaches another's keys."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.crc import key_slot

from services.local.redis import RedisServer
from services.orchestrator.adapters.redis.keys import session_keys, voice_keys
from services.shared.errors import InvalidInputError
from tests.orchestrator.adapters.redis.conftest import Stores, World
from tests.orchestrator.adapters.redis.values import new_session, open_turn, turn, voice

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("{}/:%a", max_size=6)


@pytest.mark.unit
@given(tenant=NAMES, session_id=NAMES, voice_id=NAMES, request_id=NAMES)
def test_keys_that_belong_together_share_a_slot(tenant: str, session_id: str, voice_id: str, request_id: str) -> None:
    assert len({key_slot(key.encode()) for key in session_keys(tenant, session_id).all}) == 1
    voices = voice_keys(tenant)
    names = (*voices.index, voices.features(voice_id), voices.request(request_id))
    assert len({key_slot(key.encode()) for key in names}) == 1
    assert len(set(names)) == len(names)


@pytest.mark.unit
@given(one=st.tuples(NAMES, NAMES), other=st.tuples(NAMES, NAMES))
def test_different_names_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys, others = session_keys(*one), session_keys(*other)
    assert (keys == others) == (one == other)
    assert not set(keys.all) & {*voice_keys(other[0]).index, voice_keys(other[0]).features(other[1])}


@pytest.mark.unit
def test_half_a_character_in_a_name_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        session_keys("tenant", "\ud800")


@pytest.mark.contract
def test_all_that_is_written_lies_under_the_documented_tags_and_expires(redis_server: RedisServer) -> None:
    async def scenario(stores: Stores) -> None:
        session = new_session(stores.tenant)
        lease = await stores.sessions.create(session, owner="one", token_digest="t1")
        await stores.sessions.add_token(lease, "t2")
        await stores.sessions.save_open_turn(lease, open_turn(1))
        await stores.sessions.commit_turn(lease, turn(1))
        for name in ("v1", "v2"):
            await stores.voices.put(stores.tenant, voice(name), request_id=name, request_digest="d")
        await stores.voices.delete(stores.tenant, "v2")
        client = Redis.from_url(redis_server.url, protocol=2)
        try:
            found = [key async for key in client.scan_iter(match=f"*{stores.tenant}*")]
            lasting = [key for key in found if await client.pttl(key) < 0]
        finally:
            await client.aclose()
        tags = {f"stepaudio:{{{stores.tenant}/{name}}}" for name in (session.session_id, "")}
        assert {key.decode().rpartition("}")[0] + "}" for key in found} == tags
        assert len(found) == 3 + 5 + 1 + 2
        assert not lasting

    World(redis_server.url).run(scenario)


@pytest.mark.contract
def test_a_deleted_session_leaves_only_its_tombstone(redis_server: RedisServer) -> None:
    async def scenario(stores: Stores) -> None:
        session = new_session(stores.tenant)
        lease = await stores.sessions.create(session, owner="one", token_digest="t1")
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.delete(stores.tenant, session.session_id)
        client = Redis.from_url(redis_server.url, protocol=2)
        try:
            keys = session_keys(stores.tenant, session.session_id)
            assert await asyncio.gather(*(client.exists(key) for key in keys.all)) == [1, 0, 0]
            left = await client.execute_command("HGETALL", keys.session)
        finally:
            await client.aclose()
        assert left.keys() == {b"v", b"fence", b"gone", b"keep_until_s"}

    World(redis_server.url).run(scenario)
