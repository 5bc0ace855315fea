"""A tenant's prepared replies cost it places and tokens; what is not allowed its sessions are told, and no others."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.governor import CALM_S, SETTLING_S, STRIKES
from services.orchestrator.conversation.options import SpeculationOptions
from services.orchestrator.conversation.outputs import TurnEnded
from services.orchestrator.conversation.record import Degradation, ReplyWork
from services.orchestrator.pipeline.limits import PipelineLimits, RationLimits
from services.orchestrator.pipeline.rations import Allowance, Preparing, Rations
from tests.fakes.clock import run
from tests.fakes.rooms import PACED
from tests.orchestrator.pipeline.house import LIMITS, OPTIONS, Client, House, house, start

pytestmark = pytest.mark.unit

YES = Allowance(is_allowed=True, is_given_up=False)
NO = Allowance(is_allowed=False, is_given_up=False)
GIVEN_UP = Allowance(is_allowed=False, is_given_up=True)
AHEAD = replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, speculation=SpeculationOptions(enabled=True)))
ANSWER = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 4


class Clock:
    """Moves when it is told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Place:
    """Rations, and what two tenants' sessions are told."""

    def __init__(self, opened: ExitStack, **limits: int) -> None:
        self.clock = Clock()
        self.rations = Rations(RationLimits(**limits), self.clock)
        self.ana: list[Allowance] = []
        self.ben: list[Allowance] = []
        opened.enter_context(self.rations.member("ana", self.ana.append))
        opened.enter_context(self.rations.member("ben", self.ben.append))


def work(text: int, speech: int) -> ReplyWork:
    return ReplyWork(text_tokens=text, speech_tokens=speech)


def test_a_tenant_prepares_so_many_replies_at_once_and_another_is_not_concerned() -> None:
    with ExitStack() as opened:
        place = Place(opened, tenant_speculations=2)
        first, second = (Preparing(place.rations, "ana") for _ in range(2))
        first.begun(ReplyId(1, 1), is_prepared=True)
        assert place.ana == []
        second.begun(ReplyId(1, 1), is_prepared=True)
        assert place.ana == [NO]
        first.committed(ReplyId(1, 1))
        assert place.ana == [NO, YES]
        second.over(ReplyId(1, 1), work(5, 5), is_complete=False)
        assert place.ana == [NO, YES]
        assert place.ben == []


def test_wasted_tokens_go_off_the_minute_and_come_back_with_time() -> None:
    with ExitStack() as opened:
        place = Place(opened, tenant_wasted_tokens=600)
        preparing = Preparing(place.rations, "ana")
        preparing.begun(ReplyId(1, 1), is_prepared=True)
        preparing.over(ReplyId(1, 1), work(100, 499), is_complete=False)
        assert place.ana == []
        preparing.begun(ReplyId(1, 1, 1), is_prepared=True)
        preparing.over(ReplyId(1, 1, 1), work(1, 10), is_complete=False)
        assert place.ana == [NO]
        place.clock.now_s += 0.9
        place.rations.review()
        assert place.ana == [NO]
        place.clock.now_s += 0.3
        place.rations.review()
        assert place.ana == [NO, YES]
        assert place.ben == []


def test_a_complete_reply_holds_no_place_and_is_wasted_only_when_another_begins_instead() -> None:
    with ExitStack() as opened:
        place = Place(opened, tenant_speculations=1, tenant_wasted_tokens=50)
        preparing = Preparing(place.rations, "ana")
        preparing.begun(ReplyId(1, 1), is_prepared=True)
        preparing.over(ReplyId(1, 1), work(30, 30), is_complete=True)
        assert place.ana == [NO, YES]
        preparing.committed(ReplyId(1, 1))
        preparing.begun(ReplyId(2, 1), is_prepared=False)
        assert place.ana == [NO, YES]
        preparing.begun(ReplyId(3, 1), is_prepared=True)
        preparing.over(ReplyId(3, 1), work(30, 30), is_complete=True)
        preparing.begun(ReplyId(3, 1, 1), is_prepared=False)
        assert place.ana == [NO, YES, NO, YES, NO]


def test_a_reply_that_was_spoken_costs_nothing_however_it_ends() -> None:
    with ExitStack() as opened:
        place = Place(opened, tenant_speculations=1, tenant_wasted_tokens=10)
        preparing = Preparing(place.rations, "ana")
        preparing.begun(ReplyId(1, 1), is_prepared=True)
        preparing.committed(ReplyId(1, 1))
        preparing.over(ReplyId(1, 1), work(500, 500), is_complete=False)
        assert place.ana == [NO, YES]


@pytest.mark.parametrize("limits", [{"tenant_speculations": 0}, {"tenant_wasted_tokens": 0}])
def test_where_there_is_nothing_to_spend_a_session_is_told_when_it_opens(limits: dict[str, int]) -> None:
    with ExitStack() as opened:
        place = Place(opened, **limits)
        assert place.ana == place.ben == [NO]


def test_the_governors_last_level_is_told_to_all_and_taken_back_after_a_calm_time() -> None:
    with ExitStack() as opened:
        place = Place(opened)
        for level in (1, 2, 3):
            for _ in range(STRIKES):
                place.rations.margin(0.0)
            place.clock.now_s += SETTLING_S
            assert place.rations.level == level
        assert place.ana == place.ben == [GIVEN_UP]
        assert place.rations.given_up == set(Degradation)
        late: list[Allowance] = []
        opened.enter_context(place.rations.member("cleo", late.append))
        assert late == [GIVEN_UP]
        place.clock.now_s += CALM_S
        place.rations.review()
        assert place.ana == place.ben == [GIVEN_UP, YES]
        assert late == [GIVEN_UP, YES]


def test_a_tenant_of_whom_nothing_is_known_any_more_is_forgotten() -> None:
    with ExitStack() as opened:
        place = Place(opened, tenant_wasted_tokens=600)
        place.rations.waste("ana", 300)
        opened.close()
        assert len(place.rations._tenants) == 1
        place.clock.now_s += 60
        place.rations.review()
        assert not place.rations._tenants


async def _ask_aloud(place: House, client: Client) -> None:
    place.rooms.chat.answers.append(ANSWER)
    await client.speak(0.5, 0.0)
    await client.speak(1.5, 0.5)
    await client.speak(3.0, 0.0)


def _with(**limits: int) -> PipelineLimits:
    return replace(LIMITS, rations=RationLimits(**limits))


@pytest.mark.parametrize(("places", "started", "withheld"), [(1, 1, 0), (0, 0, 1)])
def test_a_session_prepares_within_its_tenants_budget(places: int, started: int, withheld: int) -> None:
    async def main() -> None:
        async with house(PACED, limits=_with(tenant_speculations=places)) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            await _ask_aloud(place, client)
            await client.turns(1)
            metrics = client.of(TurnEnded)[0].record.metrics
            assert (metrics.speculation.started, metrics.speculation.withheld) == (started, withheld)
            assert metrics.speculation.committed == started
            assert metrics.degradations == ()
            client.hang_up()

    run(main())


def test_two_sessions_of_a_tenant_share_its_places() -> None:
    async def main() -> None:
        async with house(PACED, limits=_with(tenant_speculations=1)) as place, asyncio.TaskGroup() as tasks:
            first, second = [await start(place, tasks, options=AHEAD) for _ in range(2)]
            place.rooms.chat.answers.append(ANSWER)
            async with asyncio.TaskGroup() as speaking:
                for client in (first, second):
                    speaking.create_task(_ask_aloud(place, client))
            await first.turns(1)
            await second.turns(1)
            counts = [client.of(TurnEnded)[0].record.metrics.speculation for client in (first, second)]
            assert sorted((count.started, count.withheld) for count in counts) == [(0, 1), (1, 0)]
            first.hang_up()
            second.hang_up()

    run(main())
