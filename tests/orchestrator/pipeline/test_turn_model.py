"""A turn model is asked at each pause; what it says decides how long the silence lasts, its absence costs nothing."""

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.conversation.options import EndpointingMode
from services.orchestrator.ports.hearing import TURN_SAMPLES
from services.shared.errors import RoomUnavailableError
from tests.fakes.clock import run
from tests.fakes.hearing import FakeTurnModel
from tests.fakes.rooms import PACED
from tests.orchestrator.pipeline.house import OPTIONS, house, start, wait_for_an_answer

pytestmark = pytest.mark.unit

BY_MODEL = replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, mode=EndpointingMode.TURN_MODEL))
SOON_S, LATE_S = 0.7, 2.0


def answered_s(model: FakeTurnModel | None, *, spoken_s: float = 1.5) -> float:
    """How long the caller waits for the agent to take the turn."""

    async def main() -> float:
        async with house(PACED, turn_model=model) as place, asyncio.TaskGroup() as tasks:
            return await wait_for_an_answer(await start(place, tasks, options=BY_MODEL), tasks, spoken_s=spoken_s)

    return run(main())


@pytest.mark.parametrize(
    ("model", "waited_s"),
    [
        (FakeTurnModel([0.9], delay_s=0.08), SOON_S),
        (FakeTurnModel([0.1], delay_s=0.08), LATE_S),
        (FakeTurnModel([RoomUnavailableError("gone")]), SOON_S),
        (FakeTurnModel([ValueError("a fault of the adapter's")]), SOON_S),
        (None, SOON_S),
    ],
)
def test_a_complete_turn_is_taken_soon_and_an_open_one_late(model: FakeTurnModel | None, waited_s: float) -> None:
    assert answered_s(model) == pytest.approx(waited_s, abs=0.1)


def test_a_model_that_does_not_answer_is_not_waited_for() -> None:
    assert 1.0 <= answered_s(FakeTurnModel([None])) <= 1.4


def test_it_hears_the_turn_as_far_as_its_newest_eight_seconds() -> None:
    short, long = FakeTurnModel(), FakeTurnModel()
    answered_s(short)
    answered_s(long, spoken_s=12.0)
    assert 1.5 * 16_000 < short.heard[0] < 2.5 * 16_000
    assert long.heard == [TURN_SAMPLES]
