"""Any list of operations gives the same answers, errors too, in memory and in Redis."""

import asyncio
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.local.redis import RedisServer
from services.orchestrator.conversation.options import Options
from services.orchestrator.ports.store import Lease, Progress
from services.shared.errors import StepAudioError
from tests.orchestrator.adapters.redis.conftest import Stores, World
from tests.orchestrator.adapters.redis.values import new_session, open_turn, told, turn, voice

pytestmark = pytest.mark.contract

TOKENS = st.sampled_from([f"t{number}" for number in range(12)])
NUMBERS = st.integers(0, 4)
OWNERS = st.integers(0, 2)
VOICES = st.sampled_from(["v1", "v2", "v3", "v4"])
SESSION_STEPS = st.one_of(
    st.tuples(st.just("resume"), TOKENS),
    st.tuples(st.sampled_from(["add_token", "confirm_token"]), OWNERS, TOKENS),
    st.tuples(st.just("renew"), OWNERS, NUMBERS, st.booleans()),
    st.tuples(st.sampled_from(["commit_turn", "save_open_turn"]), OWNERS, NUMBERS),
    st.tuples(st.just("save_options"), OWNERS, st.text(max_size=3)),
    st.tuples(st.just("end"), OWNERS),
    st.tuples(st.sampled_from(["get", "turns", "delete", "create"])),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 14.9, 30.0, 75.0, 120.0, 700.0])),
)
VOICE_STEPS = st.one_of(
    st.tuples(st.just("put"), VOICES, st.sampled_from(["", "r1", "r2"]), st.sampled_from(["d1", "d2"])),
    st.tuples(st.sampled_from(["look", "use", "drop", "list"]), VOICES),
    st.tuples(st.just("list all")),
    st.tuples(st.just("pass"), st.sampled_from([100.0, 50_000.0, 86_400.0])),
)


@dataclass
class Player:
    """Plays steps on one pair of stores; owners are the leases that were given out, the newest last."""

    stores: Stores
    session_id: str
    retention_s: int
    leases: list[Lease]

    async def play(self, step: tuple[object, ...]) -> object:
        try:
            found = await self._answer(step)
        except StepAudioError as error:
            return type(error).__name__
        return found

    async def _answer(self, step: tuple[object, ...]) -> object:
        sessions, tenant = self.stores.sessions, self.stores.tenant
        match step:
            case ("pass", float(seconds)):
                self.stores.clock.pass_s(seconds)
                return None
            case ("create",):
                drawn = new_session(tenant, retention_s=self.retention_s, created_s=self.stores.clock())
                session = replace(drawn, session_id=self.session_id)
                made = await sessions.create(session, owner="o", token_digest="t0")
                self.leases.append(made)
                return made.fence
            case ("resume", str(token)):
                found = await sessions.resume(tenant, self.session_id, owner="o", token_digest=token)
                self.leases.append(found.lease)
                return found.lease.fence, _seen(found.session), found.turns, found.open_turn
            case ("get",):
                return _seen(await sessions.get(tenant, self.session_id))
            case ("turns",):
                return await sessions.turns(tenant, self.session_id, after=1, limit=2)
            case ("delete",):
                await sessions.delete(tenant, self.session_id)
                return None
            case (str(name), int(back), *rest) if self.leases:
                await self._write(name, self.leases[-1 - back % len(self.leases)], rest)
                return None
        return await self._voice(step)

    def _write(self, name: str, lease: Lease, rest: list[object]) -> Awaitable[None]:
        sessions = self.stores.sessions
        match name, rest:
            case "add_token", [str(token)]:
                return sessions.add_token(lease, token)
            case "confirm_token", [str(token)]:
                return sessions.confirm_token(lease, token)
            case "renew", [int(number), bool(attached)]:
                return sessions.renew(lease, Progress(number, 10 * number, 100 * number, attached))
            case "commit_turn", [int(number)]:
                return sessions.commit_turn(lease, turn(number))
            case "save_open_turn", [int(number)]:
                return sessions.save_open_turn(lease, open_turn(number))
            case "save_options", [str(prompt)]:
                return sessions.save_options(lease, Options(system_prompt=prompt))
        return sessions.end(lease)

    async def _voice(self, step: tuple[object, ...]) -> object:
        voices, tenant = self.stores.voices, self.stores.tenant
        match step:
            case ("put", str(name), str(request), str(digest)):
                one = voice(name, created_s=self.stores.clock(), name=digest)
                return told(await voices.put(tenant, one, request_id=request, request_digest=digest))
            case ("look", str(name)):
                return told(await voices.get(tenant, name))
            case ("use", str(name)):
                return told(await voices.use(tenant, name))
            case ("drop", str(name)):
                await voices.delete(tenant, name)
            case ("list", str(after)):
                return [told(one) for one in await voices.list(tenant, after=after, limit=2)]
            case ("list all",):
                return [told(one) for one in await voices.list(tenant, after="", limit=9)]
        return None


def _seen(session: object) -> tuple[object, ...]:
    names = ("state", "options", "created_s", "active_s", "expire_s", "epoch", "sequence", "input_sample", "turn_count")
    return tuple(getattr(session, name) for name in names)


def play_both(url: str, steps: list[tuple[object, ...]], retention_s: int) -> None:
    async def scenario() -> None:
        session_id = secrets.token_hex(8)
        async with World(None).stores() as memory, World(url).stores() as real:
            one, other = (Player(stores, session_id, retention_s, []) for stores in (memory, real))
            for place, step in enumerate([("create",), *steps]):
                expected = await one.play(step)
                assert await other.play(step) == expected, f"step {place}: {step}"

    asyncio.run(scenario())


@settings(max_examples=60)
@given(steps=st.lists(SESSION_STEPS, max_size=40), retention_s=st.sampled_from([0, 100]))
def test_sessions_are_the_same_in_memory_and_in_redis(
    redis_server: RedisServer, steps: list[tuple[object, ...]], retention_s: int
) -> None:
    play_both(redis_server.url, steps, retention_s)


@settings(max_examples=40)
@given(steps=st.lists(VOICE_STEPS, max_size=30))
def test_voices_are_the_same_in_memory_and_in_redis(redis_server: RedisServer, steps: list[tuple[object, ...]]) -> None:
    play_both(redis_server.url, steps, 0)
