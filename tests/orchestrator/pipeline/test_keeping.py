"""A write that a newer one makes worthless is left out, and is done when the newer one is.

Who waits for the last writes of a session does not wait for those that the store will never take.
"""

import asyncio
import random
from dataclasses import replace
from functools import partial

import pytest

from services.orchestrator.conversation.record import Origin
from services.orchestrator.pipeline.keeping import Keeping
from services.orchestrator.ports.store import Lease, NewSession, OpenTurn
from services.shared.errors import SessionTakenOverError, StepAudioError
from tests.fakes.clock import run
from tests.fakes.store import FakeSessionStore
from tests.orchestrator.pipeline.house import FORMATS, LIMITS, OPTIONS, wall_time

pytestmark = pytest.mark.unit


async def owned(store: FakeSessionStore) -> Lease:
    new = NewSession("tenant", "s", FORMATS, OPTIONS, (), {}, wall_time(), 60)
    return await store.create(new, owner="one", token_digest="0" * 64)


def test_states_of_the_open_turn_that_are_left_out_are_done_with_the_newest() -> None:
    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        gate = store.faults.gates["save_open_turn"] = asyncio.Event()
        lost: list[StepAudioError] = []
        keeping = Keeping(store, await owned(store), LIMITS, chance=random.Random(1), lost=lost.append)
        first = OpenTurn(1, 1, Origin.TEXT, "", "Hello?", "")
        done: list[str] = []
        for heard in ("a", "b", "c"):
            keeping.save_open_turn(replace(first, agent_text=heard), partial(done.append, heard))
        task = asyncio.ensure_future(keeping.run())
        await asyncio.sleep(0.1)
        assert done == []
        gate.set()
        await keeping.flushed()
        assert done == ["a", "b", "c"]
        assert store.faults.calls.count("save_open_turn") == 2
        kept = store.open_turn("tenant", "s")
        assert kept is not None
        assert kept.agent_text == "c"
        assert lost == []
        task.cancel()
        await asyncio.wait([task])

    run(main())


def test_who_waits_for_the_last_writes_is_told_when_a_newer_owner_has_the_session() -> None:
    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        gate = store.faults.gates["save_open_turn"] = asyncio.Event()
        lost: list[StepAudioError] = []
        keeping = Keeping(store, await owned(store), LIMITS, chance=random.Random(1), lost=lost.append)
        first = OpenTurn(1, 1, Origin.TEXT, "", "Hello?", "")
        done: list[str] = []
        keeping.save_open_turn(first, partial(done.append, "a"))
        task = asyncio.ensure_future(keeping.run())
        waiting = asyncio.ensure_future(keeping.flushed())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await store.resume("tenant", "s", owner="two", token_digest="0" * 64)
        gate.set()
        async with asyncio.timeout(1.0):
            await waiting
        assert [type(error) for error in lost] == [SessionTakenOverError]
        keeping.save_open_turn(replace(first, agent_text="late"))
        async with asyncio.timeout(1.0):
            await keeping.flushed()
        assert done == []
        await task

    run(main())
