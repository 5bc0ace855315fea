"""Moments come once, in order, at their time, and can be moved and taken back."""

import asyncio

import pytest

from services.orchestrator.pipeline.timers import Timers
from tests.fakes.clock import run
from tests.orchestrator.pipeline.house import loop_time

pytestmark = pytest.mark.unit


def test_moments_are_told_in_order_at_their_time_however_they_were_moved() -> None:
    async def main() -> None:
        told: list[tuple[str, float]] = []
        timers: Timers[str] = Timers(loop_time, lambda name: told.append((name, loop_time())))
        task = asyncio.ensure_future(timers.run())
        timers.set("late", 10)
        timers.set("put off", 2)
        timers.set("taken back", 3)
        await asyncio.sleep(1)
        timers.set("put off", 5)
        timers.set("taken back", None)
        timers.set("soon", 1.5)
        timers.set("never", None)
        await asyncio.sleep(20)
        assert told == [("soon", 1.5), ("put off", 5.0), ("late", 10.0)]
        task.cancel()
        await asyncio.wait([task])

    run(main())


def test_a_moment_that_an_earlier_one_takes_back_does_not_come() -> None:
    async def main() -> None:
        told: list[str] = []

        def reached(name: str) -> None:
            told.append(name)
            timers.set("second", None)

        timers: Timers[str] = Timers(loop_time, reached)
        timers.set("second", 2)
        timers.set("first", 1)
        await asyncio.sleep(3)
        task = asyncio.ensure_future(timers.run())
        await asyncio.sleep(1)
        assert told == ["first"]
        task.cancel()
        await asyncio.wait([task])

    run(main())
