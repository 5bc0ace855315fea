"""Callers of real processes over a real Redis: an owner killed in mid-answer, one that wakes up, and a new version."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import failover, rollout
from services.local.redis import is_installed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Redis server is in the extra `local`"),
]


def test_an_answer_goes_on_at_another_replica_and_an_owner_that_wakes_up_writes_nothing(tmp_path: Path) -> None:
    found = asyncio.run(failover.measure(tmp_path, kills=1, zombies=1, replicas=2))
    assert found.problems == []
    assert (found.kills, found.resumed, found.zombies) == (1, 1, 1)
    assert found.committed == len(failover.TEXTS)
    assert found.refused > 0


def test_a_new_version_takes_over_live_conversations_and_no_turn_is_dropped(tmp_path: Path) -> None:
    found = asyncio.run(rollout.measure(tmp_path, 1, callers=3, turns=3))
    assert found.problems == []
    assert found.asked >= 9
    assert found.dropped == 0
    assert found.moved >= 3
