"""Parts of the system are killed in the middle of a turn: nobody waits for ever, and nothing that was kept is lost."""

import asyncio
import time

import pytest

from benchmarks.faults import TASKS, Survival, await_nothing_left, hang_up, survive
from benchmarks.live_system import REPLICA, LiveSystem
from protos.gen.stepaudio.v1 import session_pb2
from services.local.record import ORCHESTRATOR
from tests.system.conftest import RESUME_WINDOW_S

pytestmark = pytest.mark.integration

HANG_UPS = 16
SETTLE_S = 30.0


def check_nothing_is_lost(found: Survival) -> None:
    assert found.first.outcome == found.next.outcome == session_pb2.TURN_OUTCOME_COMPLETED
    assert found.is_kept


def test_a_turn_fails_typed_with_its_room_and_the_next_one_works_when_it_is_back(system: LiveSystem) -> None:
    found = asyncio.run(survive(system, ["vocoder"], moment="reply_audio"))
    check_nothing_is_lost(found)
    assert found.cut_reason in ("", "ROOM_UNAVAILABLE")
    assert set(found.refusals) == {"ROOM_UNAVAILABLE"}
    assert found.resumes == 0


def test_a_conversation_goes_on_when_the_store_comes_back(system: LiveSystem) -> None:
    found = asyncio.run(survive(system, ["redis"], moment="reply_audio"))
    check_nothing_is_lost(found)
    assert found.cut.outcome == session_pb2.TURN_OUTCOME_COMPLETED
    assert found.resumes == 0


def test_a_client_resumes_on_the_next_replica_when_its_own_is_killed(system: LiveSystem) -> None:
    found = asyncio.run(survive(system, [REPLICA], moment="reply_audio"))
    check_nothing_is_lost(found)
    assert found.cut.outcome == session_pb2.TURN_OUTCOME_COMPLETED  # its reply went on where it was
    assert found.resumes == 1


def test_callers_who_hang_up_leave_nothing_behind(system: LiveSystem) -> None:
    tasks = system.metric(ORCHESTRATOR, TASKS)
    assert asyncio.run(hang_up(system, HANG_UPS, seed=7)) > HANG_UPS / 2
    assert asyncio.run(await_nothing_left(system, timeout_s=SETTLE_S + RESUME_WINDOW_S)) == {}
    deadline_s = time.monotonic() + SETTLE_S
    while system.metric(ORCHESTRATOR, TASKS) > tasks + 2:  # a request for this metric may be one, a lease's renewal too
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
