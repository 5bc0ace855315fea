"""What every store of sessions does, in memory and in Redis alike."""

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.conversation.options import Options
from services.orchestrator.ports.store import Lease, Progress, SessionStore
from services.shared.errors import (
    InvalidResumeTokenError,
    SessionDeletedError,
    SessionEndedError,
    SessionNotFoundError,
    SessionTakenOverError,
    SessionTooLongError,
    StepAudioError,
)
from tests.orchestrator.adapters.redis.conftest import MAX_TURNS, TIMES, Stores, World
from tests.orchestrator.adapters.redis.values import OPTIONS, new_session, open_turn, turn

pytestmark = pytest.mark.contract

HERE = Progress(epoch=1, sequence=10, input_sample=1600, attached=True)
AWAY = Progress(epoch=1, sequence=10, input_sample=1600, attached=False)
WRITES = ("add_token", "confirm_token", "renew", "save_options", "save_open_turn", "commit_turn", "end")


async def write(store: SessionStore, name: str, lease: Lease) -> None:
    """One write by its name."""
    match name:
        case "add_token":
            await store.add_token(lease, "late")
        case "confirm_token":
            await store.confirm_token(lease, "t1")
        case "renew":
            await store.renew(lease, HERE)
        case "save_options":
            await store.save_options(lease, Options())
        case "save_open_turn":
            await store.save_open_turn(lease, open_turn(9))
        case "commit_turn":
            await store.commit_turn(lease, turn(1))
        case "end":
            await store.end(lease)


async def begin(stores: Stores, *, retention_s: int = 3600) -> Lease:
    session = new_session(stores.tenant, retention_s=retention_s, created_s=stores.clock())
    return await stores.sessions.create(session, owner="one", token_digest="t1")


def test_a_session_is_read_as_it_was_made(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        session = new_session(stores.tenant)
        await stores.sessions.create(session, owner="one", token_digest="t1")
        kept = await stores.sessions.get(stores.tenant, session.session_id)
        assert (kept.state, kept.expire_s, kept.turn_count) == ("live", None, 0)
        assert (kept.epoch, kept.sequence, kept.input_sample) == (1, 0, 0)
        for name in ("tenant", "session_id", "formats", "options", "history", "created_s", "retention_s"):
            assert getattr(kept, name) == getattr(session, name)
        assert dict(kept.labels) == dict(session.labels)
        assert kept.active_s == session.created_s

    world.run(scenario)


def test_creating_it_again_gives_the_same_lease_and_another_use_of_the_id_is_refused(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        session = new_session(stores.tenant)
        lease = await stores.sessions.create(session, owner="one", token_digest="t1")
        assert await stores.sessions.create(session, owner="one", token_digest="t1") == lease
        with pytest.raises(StepAudioError):
            await stores.sessions.create(session, owner="two", token_digest="t2")
        with pytest.raises(StepAudioError):
            await stores.sessions.create(session, owner="one", token_digest="t2")

    world.run(scenario)


def test_a_resume_gives_the_session_its_turns_and_the_open_one(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        await stores.sessions.renew(lease, Progress(epoch=2, sequence=57, input_sample=2**40, attached=True))
        for number in (1, 2, 3):
            await stores.sessions.commit_turn(lease, turn(number))
        await stores.sessions.save_open_turn(lease, open_turn(4))
        await stores.sessions.save_options(lease, Options())
        stores.clock.pass_s(40)
        found = await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        assert found.lease == Lease(*who(lease), fence=lease.fence + 1, owner="two")
        assert found.turns == (turn(1), turn(2), turn(3))
        assert found.open_turn == open_turn(4)
        assert found.session.options == Options() != OPTIONS
        assert (found.session.state, found.session.turn_count) == ("live", 3)
        assert (found.session.epoch, found.session.sequence, found.session.input_sample) == (2, 57, 2**40)
        assert found.session.active_s == stores.clock()

    world.run(scenario)


@pytest.mark.parametrize("name", WRITES)
def test_an_owner_that_was_replaced_writes_nothing(world: World, name: str) -> None:
    async def scenario(stores: Stores) -> None:
        older = await begin(stores)
        newer = (await stores.sessions.resume(*who(older), owner="two", token_digest="t1")).lease
        before = await stores.sessions.get(*who(older))
        stores.clock.pass_s(1)
        with pytest.raises(SessionTakenOverError):
            await write(stores.sessions, name, older)
        assert await stores.sessions.get(*who(older)) == before
        await write(stores.sessions, name, newer)

    world.run(scenario)


def test_only_the_newest_of_many_that_take_over_at_once_may_write(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        first = await begin(stores)
        async with asyncio.TaskGroup() as group:
            resumes = [
                group.create_task(stores.sessions.resume(*who(first), owner=f"r{n}", token_digest="t1"))
                for n in range(10)
            ]
        leases = [resume.result().lease for resume in resumes]
        assert sorted(lease.fence for lease in leases) == list(range(2, 12))
        for lease in leases:
            if lease.fence == 11:
                await stores.sessions.commit_turn(lease, turn(1, "newest"))
            else:
                with pytest.raises(SessionTakenOverError):
                    await stores.sessions.commit_turn(lease, turn(1, "older"))
        (kept,) = await stores.sessions.turns(*who(first), after=0, limit=9)
        assert kept.agent_text == "newest"

    world.run(scenario)


def test_a_token_works_until_its_successor_is_confirmed(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        # the answers are lost on the way: the client comes again with the latest token that it has
        for token, successor in (("t1", "lost"), ("t1", "t2"), ("t2", "lost too"), ("t1", "t3")):
            with pytest.raises(InvalidResumeTokenError):
                await stores.sessions.resume(*who(lease), owner="x", token_digest="nobody's")
            lease = (await stores.sessions.resume(*who(lease), owner="two", token_digest=token)).lease
            await stores.sessions.add_token(lease, successor)
        await stores.sessions.confirm_token(lease, "t3")
        for void in ("t1", "t2", "lost", "lost too"):
            with pytest.raises(InvalidResumeTokenError):
                await stores.sessions.resume(*who(lease), owner="three", token_digest=void)
        await stores.sessions.resume(*who(lease), owner="three", token_digest="t3")

    world.run(scenario)


def test_a_late_or_repeated_confirmation_voids_nothing(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        for token in ("t2", "t2", "t3"):
            await stores.sessions.add_token(lease, token)
        await stores.sessions.confirm_token(lease, "t3")
        for token in ("t2", "t3", "unknown"):
            await stores.sessions.confirm_token(lease, token)
        await stores.sessions.resume(*who(lease), owner="two", token_digest="t3")

    world.run(scenario)


def test_tokens_are_bounded_and_a_client_keeps_the_ones_it_can_have(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        await stores.sessions.add_token(lease, "held")
        for number in range(30):  # every answer is lost, so the client has no newer one than it used
            lease = (await stores.sessions.resume(*who(lease), owner="two", token_digest="held")).lease
            await stores.sessions.add_token(lease, f"n{number}")
        for token in ("n29", "t1", "held"):
            lease = (await stores.sessions.resume(*who(lease), owner="two", token_digest=token)).lease
        with pytest.raises(InvalidResumeTokenError):
            await stores.sessions.resume(*who(lease), owner="two", token_digest="n0")

    world.run(scenario)


def test_a_session_whose_owner_died_is_detached_then_ended_then_gone(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores, retention_s=1000)
        await stores.sessions.commit_turn(lease, turn(1))
        stores.clock.pass_s(5)
        await stores.sessions.renew(lease, HERE)
        renewed_s = stores.clock()
        over_s = renewed_s + TIMES.lease_s + TIMES.resume_window_s
        for at_s, state, expire_s in (
            (renewed_s + TIMES.lease_s - 0.5, "live", None),
            (renewed_s + TIMES.lease_s, "detached", over_s + 1000),
            (over_s - 0.5, "detached", over_s + 1000),
            (over_s, "ended", over_s + 1000),
            (over_s + 999.5, "ended", over_s + 1000),
        ):
            stores.clock.now_s = at_s
            kept = await stores.sessions.get(*who(lease))
            assert (kept.state, kept.expire_s, kept.active_s) == (state, expire_s, renewed_s)
            assert await stores.sessions.turns(*who(lease), after=0, limit=5) == (turn(1),)
        with pytest.raises(SessionEndedError):
            await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        stores.clock.now_s = over_s + 1000
        for call in (
            stores.sessions.get(*who(lease)),
            stores.sessions.turns(*who(lease), after=0, limit=5),
            stores.sessions.resume(*who(lease), owner="two", token_digest="t1"),
            stores.sessions.delete(*who(lease)),
        ):
            with pytest.raises(SessionNotFoundError):
                await call

    world.run(scenario)


def test_a_session_whose_client_went_is_detached_from_that_moment_however_often_it_is_renewed(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores, retention_s=50)
        stores.clock.pass_s(3)
        await stores.sessions.renew(lease, HERE)
        seen_s = stores.clock()
        stores.clock.pass_s(4)
        await stores.sessions.renew(lease, AWAY)
        gone_s = stores.clock()
        for _ in range(10):
            stores.clock.pass_s(10)
            await stores.sessions.renew(lease, AWAY)
        kept = await stores.sessions.get(*who(lease))
        assert (kept.state, kept.active_s) == ("detached", seen_s)
        assert kept.expire_s == gone_s + TIMES.resume_window_s + 50
        back = await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        assert (await stores.sessions.get(*who(lease))).state == "live"
        stores.clock.pass_s(1)
        await stores.sessions.renew(back.lease, AWAY)
        kept = await stores.sessions.get(*who(lease))
        assert kept.expire_s == stores.clock() + TIMES.resume_window_s + 50

    world.run(scenario)


def test_an_owner_whose_lease_ran_out_goes_on_if_nobody_took_over(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores, retention_s=0)
        stores.clock.pass_s(TIMES.lease_s + TIMES.resume_window_s + TIMES.margin_s - 1)
        with pytest.raises(SessionNotFoundError):
            await stores.sessions.get(*who(lease))
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.renew(lease, HERE)
        assert (await stores.sessions.get(*who(lease))).state == "live"
        stores.clock.pass_s(TIMES.lease_s + TIMES.resume_window_s + TIMES.margin_s)
        with pytest.raises(SessionDeletedError):
            await stores.sessions.renew(lease, HERE)

    world.run(scenario)


def test_progress_never_falls(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        await stores.sessions.renew(lease, Progress(5, 2**53 - 1, 300, attached=True))
        await stores.sessions.renew(lease, Progress(4, 99, 301, attached=True))
        kept = await stores.sessions.get(*who(lease))
        assert (kept.epoch, kept.sequence, kept.input_sample) == (5, 2**53 - 1, 301)

    world.run(scenario)


def test_another_commit_of_a_turn_changes_nothing_and_a_gap_is_refused(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        for number in (0, -1, 2, 7):
            with pytest.raises(StepAudioError) as refusal:
                await stores.sessions.commit_turn(lease, turn(number))
            assert refusal.value.reason == "INTERNAL"
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.commit_turn(lease, turn(1, "another"))
        await stores.sessions.commit_turn(lease, turn(2))
        assert await stores.sessions.turns(*who(lease), after=0, limit=9) == (turn(1), turn(2))
        assert (await stores.sessions.get(*who(lease))).turn_count == 2

    world.run(scenario)


def test_turns_are_paged_by_number(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        for number in range(1, 8):
            await stores.sessions.commit_turn(lease, turn(number))
        for after, limit, numbers in (
            (0, 3, [1, 2, 3]),
            (3, 3, [4, 5, 6]),
            (6, 3, [7]),
            (7, 3, []),
            (2, 0, []),
            (-4, 1, [1]),
        ):
            page = await stores.sessions.turns(*who(lease), after=after, limit=limit)
            assert [one.number for one in page] == numbers

    world.run(scenario)


def test_a_session_has_only_so_many_turns(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        for number in range(1, MAX_TURNS + 1):
            await stores.sessions.commit_turn(lease, turn(number))
        with pytest.raises(SessionTooLongError) as refusal:
            await stores.sessions.commit_turn(lease, turn(MAX_TURNS + 1))
        assert refusal.value.details["limit"] == str(MAX_TURNS)

    world.run(scenario)


def test_a_commit_drops_the_open_turn_but_not_a_newer_one_and_none_comes_back(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        await stores.sessions.save_open_turn(lease, open_turn(1))
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.save_open_turn(lease, open_turn(1))  # was on its way
        found = await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        assert found.open_turn is None
        await stores.sessions.save_open_turn(found.lease, open_turn(3))
        await stores.sessions.commit_turn(found.lease, turn(2))
        found = await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        assert found.open_turn == open_turn(3)

    world.run(scenario)


def test_an_ended_session_is_read_for_its_retention_and_is_written_no_more(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores, retention_s=100)
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.end(lease)
        await stores.sessions.end(lease)
        expire_s = stores.clock() + 100
        for name in WRITES:
            if name != "end":
                with pytest.raises(SessionEndedError):
                    await write(stores.sessions, name, lease)
        with pytest.raises(SessionEndedError):
            await stores.sessions.resume(*who(lease), owner="two", token_digest="t1")
        stores.clock.pass_s(99.5)
        kept = await stores.sessions.get(*who(lease))
        assert (kept.state, kept.expire_s, kept.turn_count) == ("ended", expire_s, 1)
        stores.clock.pass_s(0.5)
        with pytest.raises(SessionNotFoundError):
            await stores.sessions.get(*who(lease))

    world.run(scenario)


def test_an_ended_session_without_retention_is_gone_and_ending_it_twice_does_no_harm(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores, retention_s=0)
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.end(lease)
        await stores.sessions.end(lease)
        with pytest.raises(SessionNotFoundError):
            await stores.sessions.turns(*who(lease), after=0, limit=1)
        with pytest.raises(SessionEndedError):
            await stores.sessions.renew(lease, HERE)

    world.run(scenario)


@pytest.mark.parametrize("name", WRITES)
def test_the_owner_of_a_deleted_session_learns_of_it(world: World, name: str) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        await stores.sessions.commit_turn(lease, turn(1))
        await stores.sessions.delete(*who(lease))
        for call in (
            stores.sessions.get(*who(lease)),
            stores.sessions.turns(*who(lease), after=0, limit=5),
            stores.sessions.resume(*who(lease), owner="two", token_digest="t1"),
            stores.sessions.delete(*who(lease)),
        ):
            with pytest.raises(SessionNotFoundError):
                await call
        for _ in range(2):
            with pytest.raises(SessionDeletedError):
                await write(stores.sessions, name, lease)
        session = replace(new_session(stores.tenant), session_id=lease.session_id)
        with pytest.raises(StepAudioError):
            await stores.sessions.create(session, owner="one", token_digest="t1")

    world.run(scenario)


def test_another_tenant_sees_nothing_whatever_it_is_called(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        session = new_session(stores.tenant)
        await stores.sessions.create(session, owner="one", token_digest="t1")
        own = session.session_id
        for tenant, session_id in (
            ("other", own),
            ("", own),
            ("", f"{stores.tenant}/{own}"),
            (f"{stores.tenant}/{own}", ""),
            (stores.tenant.upper(), own),
            (f"{stores.tenant}}}", own),
            (stores.tenant, f"{own}}}:session"),
            (stores.tenant, ""),
        ):
            for call in (
                stores.sessions.get(tenant, session_id),
                stores.sessions.delete(tenant, session_id),
                stores.sessions.resume(tenant, session_id, owner="x", token_digest="t1"),
            ):
                with pytest.raises(SessionNotFoundError):
                    await call
        assert (await stores.sessions.get(stores.tenant, own)).state == "live"

    world.run(scenario)


def test_a_hundred_sessions_are_made_and_written_at_once(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        async def live(number: int) -> None:
            lease = await begin(stores)
            await stores.sessions.commit_turn(lease, turn(1, str(number)))
            await stores.sessions.renew(lease, HERE)
            (kept,) = await stores.sessions.turns(*who(lease), after=0, limit=2)
            assert kept == turn(1, str(number))

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(live(number))

    world.run(scenario)


def test_a_hundred_commits_of_one_turn_at_once_keep_one(world: World) -> None:
    async def scenario(stores: Stores) -> None:
        lease = await begin(stores)
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(stores.sessions.commit_turn(lease, turn(1, str(number))))
        assert (await stores.sessions.get(*who(lease))).turn_count == 1

    world.run(scenario)


def who(lease: Lease) -> tuple[str, str]:
    return lease.tenant, lease.session_id
