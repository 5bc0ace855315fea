"""Who looks for a replica is told of the store what lasts, and nothing that passes."""

import asyncio
from collections.abc import Sequence

import pytest

from services.orchestrator.adapters.redis.watch import StoreWatch
from services.shared.errors import RoomUnavailableError, StepAudioError

pytestmark = pytest.mark.unit

ANSWERS = None
REFUSES = StepAudioError("the store refused 'PING': NOPERM")
IS_AWAY = RoomUnavailableError("the store is away: invalid username-password pair")


class _Over(Exception):  # noqa: N818  # ends a script, and is no error
    pass


def watched(answers: Sequence[Exception | None]) -> tuple[list[bool], StoreWatch]:
    """What was told while the store gave these answers, and the watch after them."""
    left, told = list(answers), []

    async def check() -> None:
        if (answer := left.pop(0)) is not None:
            raise answer

    async def tell(is_serving: bool) -> None:
        told.append(is_serving)

    async def sleep(_: float) -> None:
        if not left:
            raise _Over

    watch = StoreWatch(check, tell, sleep=sleep)

    async def run() -> None:
        await watch.begin()
        with pytest.raises(_Over):
            await watch.run()

    asyncio.run(run())
    return told, watch


@pytest.mark.parametrize("failure", [REFUSES, IS_AWAY])
def test_a_store_that_refuses_or_is_away_at_the_start_is_told_at_once(failure: StepAudioError) -> None:
    told, watch = watched([failure])
    assert told == [False]
    assert watch.is_away


def test_a_store_that_answers_is_worth_no_word() -> None:
    told, watch = watched([ANSWERS, ANSWERS, ANSWERS])
    assert told == []
    assert not watch.is_away


def test_a_fail_over_passes_unsaid() -> None:
    told, watch = watched([ANSWERS, IS_AWAY, IS_AWAY, ANSWERS, IS_AWAY, IS_AWAY, ANSWERS])
    assert told == []
    assert not watch.is_away


def test_what_lasts_is_told_once_and_so_is_its_end() -> None:
    told, watch = watched([ANSWERS, IS_AWAY, IS_AWAY, REFUSES, IS_AWAY, IS_AWAY, IS_AWAY, ANSWERS, ANSWERS])
    assert told == [False, True]
    assert not watch.is_away


def test_a_defect_is_not_taken_for_the_stores_absence() -> None:
    async def run() -> None:
        async def check() -> None:
            raise ZeroDivisionError

        async def tell(_: bool) -> None:
            pytest.fail("told")

        with pytest.raises(ZeroDivisionError):
            await StoreWatch(check, tell).begin()

    asyncio.run(run())
