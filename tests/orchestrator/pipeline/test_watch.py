"""The watch: one timer for many waits, which interrupts the one that takes too long."""

import asyncio
from contextlib import closing
from typing import Any, Final

import pytest

from services.orchestrator.pipeline.watch import Watch
from tests.fakes.clock import run

pytestmark = pytest.mark.unit

LIMIT_S: Final = 1.0


def test_a_wait_within_the_limit_ends_as_it_would() -> None:
    async def work() -> None:
        with closing(Watch(LIMIT_S)) as watch:
            for _ in range(5):
                with watch:
                    await asyncio.sleep(0.9 * LIMIT_S)

    run(work())


def test_the_wait_that_takes_too_long_ends_when_the_limit_is_reached() -> None:
    async def work() -> None:
        clock = asyncio.get_running_loop().time
        with closing(Watch(LIMIT_S)) as watch:
            with watch:
                await asyncio.sleep(0.7)
            begun_s = clock()
            with pytest.raises(TimeoutError), watch:
                await asyncio.sleep(100)
            assert clock() - begun_s == pytest.approx(LIMIT_S)

    run(work())


def test_what_happens_between_two_waits_takes_as_long_as_it_likes() -> None:
    async def work() -> None:
        with closing(Watch(LIMIT_S)) as watch:
            for _ in range(3):
                with watch:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(10 * LIMIT_S)

    run(work())


def test_a_watch_goes_on_after_a_wait_that_took_too_long() -> None:
    async def work() -> None:
        with closing(Watch(LIMIT_S)) as watch:
            for _ in range(2):
                with pytest.raises(TimeoutError), watch:
                    await asyncio.sleep(100)
            with watch:
                await asyncio.sleep(0.9 * LIMIT_S)

    run(work())


def test_a_task_that_is_cancelled_by_another_stays_cancelled() -> None:
    async def wait(watch: Watch) -> None:
        with watch:
            await asyncio.sleep(100)

    async def work() -> None:
        with closing(Watch(LIMIT_S)) as watch:
            task = asyncio.create_task(wait(watch))
            await asyncio.sleep(0.5 * LIMIT_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(work())


def test_a_task_that_is_cancelled_as_its_wait_ends_stays_cancelled() -> None:
    async def wait(watch: Watch) -> None:
        with watch:
            await asyncio.sleep(100)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        with closing(Watch(LIMIT_S)) as watch:
            task = asyncio.create_task(wait(watch))
            loop.call_later(LIMIT_S, lambda: task.cancel())
            with pytest.raises(asyncio.CancelledError):
                await task

    run(work())


def test_other_errors_pass_through() -> None:
    async def work() -> None:
        with closing(Watch(LIMIT_S)) as watch, pytest.raises(KeyError), watch:
            raise KeyError

    run(work())


def test_many_waits_set_few_timers() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        timers: list[float] = []
        call_at = loop.call_at

        def counted(when: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return call_at(when, *arguments, **options)

        loop.call_at = counted  # type: ignore[assignment]  # counts
        with closing(Watch(LIMIT_S)) as watch:
            for _ in range(100):
                with watch:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.03)
        sleeps = 100
        assert len(timers) - sleeps <= 4

    run(work())


def test_a_closed_watch_leaves_no_timer_behind() -> None:
    async def work() -> None:
        watch = Watch(LIMIT_S)
        with watch:
            await asyncio.sleep(0)
        watch.close()
        watch.close()
        loop = asyncio.get_running_loop()
        scheduled = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert scheduled == []

    run(work())
