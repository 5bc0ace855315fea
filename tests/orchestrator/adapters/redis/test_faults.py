"""The store goes away, forgets its scripts, is slow or full; calls fail by type and in time, and later ones work."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.redis import RedisServer
from services.orchestrator.adapters.redis.connect import Connection, ConnectionLimits, connect
from services.orchestrator.adapters.redis.keys import session_keys
from services.orchestrator.adapters.redis.lifetime import SessionTimes
from services.orchestrator.adapters.redis.scripts import RESUME
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.ports.store import Lease
from services.shared.errors import RoomUnavailableError, SessionNotFoundError, StepAudioError
from tests.fakes.store import FakeSessionStore, Fault, WallClock
from tests.orchestrator.adapters.redis.values import new_session, turn

QUICK = ConnectionLimits(connections=4, connect_s=0.2, answer_s=0.2, call_s=0.6, retries=2)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may hurt."""
    server = RedisServer(tmp_path, password="pass word")
    try:
        asyncio.run(server.await_ready(timeout_s=30))
        yield server
    finally:
        if not server.process.is_running:
            server.process.stop(grace_s=0)
        else:
            os.kill(server.process.pid, signal.SIGCONT)
            server.stop()


def store_on(connection: Connection) -> RedisSessionStore:
    return RedisSessionStore(connection, clock=WallClock())


async def begin(store: RedisSessionStore) -> Lease:
    return await store.create(new_session("tenant"), owner="one", token_digest="t1")


@pytest.mark.integration
def test_turns_survive_the_death_of_the_server_amid_writes(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url, limits=QUICK)
        store = store_on(connection)
        lease = await begin(store)
        kept = 0
        try:
            while True:
                await store.commit_turn(lease, turn(kept + 1))
                kept += 1
                if kept == 30:
                    os.kill(own_server.process.pid, signal.SIGKILL)
        except RoomUnavailableError:
            pass
        for _ in range(3):
            with pytest.raises(RoomUnavailableError):
                await store.get("tenant", lease.session_id)
        own_server.process.stop(grace_s=0)
        again = RedisServer(own_server.process.log.parent, password="pass word", port=own_server.port)
        try:
            await again.await_ready(timeout_s=30)
            numbers = [one.number for one in await store.turns("tenant", lease.session_id, after=0, limit=99)]
            assert kept >= 30
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= kept
            await store.commit_turn(lease, turn(len(numbers) + 1))
            found = await store.resume("tenant", lease.session_id, owner="two", token_digest="t1")
            assert found.session.turn_count == len(found.turns) == len(numbers) + 1
        finally:
            await connection.close()
            again.stop()

    asyncio.run(scenario())


@pytest.mark.integration
def test_calls_to_a_server_that_hangs_fail_in_time_and_their_answers_meet_nobody_else(
    own_server: RedisServer,
) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url, limits=QUICK)
        store = store_on(connection)
        leases = [await begin(store) for _ in range(8)]
        os.kill(own_server.process.pid, signal.SIGSTOP)
        answers = await asyncio.gather(
            *(store.get("tenant", lease.session_id) for lease in leases), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {RoomUnavailableError}
        os.kill(own_server.process.pid, signal.SIGCONT)
        for lease in leases:
            assert (await store.get("tenant", lease.session_id)).session_id == lease.session_id
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_call_that_is_cancelled_leaves_no_answer_behind(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url, limits=ConnectionLimits(connections=1))
        store = store_on(connection)
        leases = [await begin(store) for _ in range(2)]
        for steps in range(12):
            call = asyncio.ensure_future(store.get("tenant", leases[0].session_id))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert (await store.get("tenant", leases[1].session_id)).session_id == leases[1].session_id
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_server_that_forgot_the_scripts_is_given_them_again(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        store = store_on(connection)
        lease = await begin(store)
        await store.commit_turn(lease, turn(1))
        await connection.command("SCRIPT", "FLUSH")
        await store.commit_turn(lease, turn(2))
        assert (await store.get("tenant", lease.session_id)).turn_count == 2
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_token_that_is_replaced_while_it_is_presented_takes_nothing_over(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        store = store_on(connection)
        lease = await begin(store)
        keys = session_keys("tenant", lease.session_id).all
        answer = await connection.run(RESUME, keys, (repr(WallClock()()), 1, "60.0", "two", "replaced"))
        assert answer == b"token"
        await store.commit_turn(lease, turn(1))
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_full_server_refuses_writes_as_away_and_still_reads(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        store = store_on(connection)
        lease = await begin(store)
        await connection.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(RoomUnavailableError):
            await store.commit_turn(lease, turn(1))
        assert (await store.get("tenant", lease.session_id)).turn_count == 0
        await connection.command("CONFIG", "SET", "maxmemory", 0)
        await store.commit_turn(lease, turn(1))
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_wrong_password_is_told_without_it(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url.replace("pass%20word", "wrong"), limits=QUICK)
        with pytest.raises(RoomUnavailableError) as refusal:
            await connection.check()
        assert "wrong" not in str(refusal.value)
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_what_the_server_refuses_is_no_outage(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        await connection.check()
        with pytest.raises(StepAudioError) as refusal:
            await connection.command("NO_SUCH_COMMAND")
        assert refusal.value.reason == "INTERNAL"
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_a_session_of_a_newer_release_is_refused_and_left_as_it_is(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        store = store_on(connection)
        lease = await begin(store)
        key = f"stepaudio:{{tenant/{lease.session_id}}}:session"
        await connection.command("HSET", key, "v", 2)
        before = await connection.command("HGETALL", key)
        for call in (
            store.get("tenant", lease.session_id),
            store.turns("tenant", lease.session_id, after=0, limit=1),
            store.resume("tenant", lease.session_id, owner="two", token_digest="t1"),
            store.commit_turn(lease, turn(1)),
            store.end(lease),
            store.delete("tenant", lease.session_id),
        ):
            with pytest.raises(StepAudioError) as refusal:
                await call
            assert refusal.value.reason == "INTERNAL"
        assert await connection.command("HGETALL", key) == before
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.integration
def test_the_server_itself_forgets_what_has_expired(own_server: RedisServer) -> None:
    async def scenario() -> None:
        connection = connect(own_server.url)
        times = SessionTimes(lease_s=0.05, resume_window_s=0.05, margin_s=0.1, tombstone_s=0.1)
        store = RedisSessionStore(connection, clock=WallClock(), times=times)  # a clock that stands: only TTLs work
        lease = await store.create(new_session("tenant", retention_s=0), owner="one", token_digest="t1")
        await store.commit_turn(lease, turn(1))
        while await connection.command("DBSIZE"):
            await asyncio.sleep(0.02)
        with pytest.raises(SessionNotFoundError):
            await store.get("tenant", lease.session_id)
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.unit
def test_the_store_in_memory_fails_as_it_is_told() -> None:
    async def scenario() -> None:
        store = FakeSessionStore(clock=WallClock())
        lease = await store.create(new_session("tenant"), owner="one", token_digest="t1")
        store.faults.plan("commit_turn", Fault.REFUSED, Fault.LOST)
        for kept in (0, 1):
            with pytest.raises(RoomUnavailableError):
                await store.commit_turn(lease, turn(1))
            assert (await store.get("tenant", lease.session_id)).turn_count == kept
        store.faults.away = True
        with pytest.raises(RoomUnavailableError):
            await store.get("tenant", lease.session_id)
        store.faults.away = False
        gate = store.faults.gates["get"] = asyncio.Event()
        call = asyncio.ensure_future(store.get("tenant", lease.session_id))
        await asyncio.sleep(0)
        assert not call.done()
        gate.set()
        assert (await call).turn_count == 1

    asyncio.run(scenario())
