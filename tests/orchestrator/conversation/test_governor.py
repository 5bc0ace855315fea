"""What is given up when the rooms fall behind: by a table, with hysteresis, and never more than is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation.governor import (
    CALM_S,
    POLICY,
    SETTLING_S,
    STRIKES,
    Governor,
    observed,
    reviewed,
)
from services.orchestrator.conversation.record import Degradation

pytestmark = pytest.mark.unit

SMALLER, FEWER, SILENT = (row.gives_up for row in POLICY)


def at(level: int) -> Governor:
    """A governor that has just come to a level, and has settled."""
    return Governor(level=level, judges_from_s=0.0, calm_from_s=0.0)


def seen(governor: Governor, *margins_ms: float, from_s: float = 1.0) -> Governor:
    for place, margin_ms in enumerate(margins_ms):
        governor = observed(governor, from_s + place / 100, margin_ms)
    return governor


TABLE = [
    # level, margins in a row, the level after them
    (0, (POLICY[0].worse_ms,) * STRIKES, 0),
    (0, (POLICY[0].worse_ms - 1,) * (STRIKES - 1), 0),
    (0, (POLICY[0].worse_ms - 1,) * STRIKES, 1),
    (0, (0.0,) * STRIKES, 1),
    (0, (0.0, 0.0, 5000.0, 0.0, 0.0), 0),
    (1, (POLICY[1].worse_ms,) * STRIKES, 1),
    (1, (POLICY[1].worse_ms - 1,) * STRIKES, 2),
    (2, (POLICY[2].worse_ms,) * STRIKES, 2),
    (2, (POLICY[2].worse_ms - 1,) * STRIKES, 3),
    (3, (0.0,) * 20, 3),
    (1, (5000.0,) * 20, 1),
]


@pytest.mark.parametrize(("level", "margins", "after"), TABLE)
def test_the_table_of_the_ways_down(level: int, margins: tuple[float, ...], after: int) -> None:
    assert seen(at(level), *margins).level == after


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_is_left_after_a_calm_time_and_not_before(level: int) -> None:
    entered = at(level)
    assert reviewed(entered, CALM_S - 0.01).level == level
    assert reviewed(entered, CALM_S).level == level - 1
    better_ms = POLICY[level - 1].better_ms
    assert observed(entered, CALM_S, better_ms).level == level - 1
    disturbed = observed(entered, CALM_S - 1, better_ms - 1)
    assert observed(disturbed, CALM_S, better_ms).level == level
    assert reviewed(disturbed, CALM_S - 1 + CALM_S).level == level - 1


def test_a_margin_that_leads_nowhere_lies_between_the_two_of_each_level() -> None:
    for place, level in enumerate(POLICY):
        between_ms = (level.worse_ms + level.better_ms) / 2
        governor = at(place + 1)
        for second in range(60):
            governor = observed(governor, float(second), between_ms)
        assert governor.level == place + 1


def test_each_level_keeps_what_the_one_before_gave_up() -> None:
    assert [at(level).given_up for level in (0, 1, 2, 3)] == [
        frozenset(),
        {SMALLER},
        {SMALLER, FEWER},
        {SMALLER, FEWER, SILENT},
    ]
    assert tuple(Degradation) == (SMALLER, FEWER, SILENT)


def test_margins_of_chunks_made_before_a_level_settled_lead_no_further() -> None:
    fallen = seen(Governor(), *(0.0,) * STRIKES)
    assert fallen.level == 1
    assert seen(fallen, *(0.0,) * 50, from_s=1.02).level == 1
    assert seen(fallen, *(0.0,) * STRIKES, from_s=1.02 + SETTLING_S).level == 2


@pytest.mark.parametrize("max_level", [0, 1, 2, 3])
def test_it_never_gives_up_more_than_is_allowed(max_level: int) -> None:
    governor = Governor(max_level=max_level)
    for second in range(100):
        governor = observed(governor, second / 2, 0.0)
    assert governor.level == max_level


@given(st.lists(st.tuples(st.floats(0.001, 3), st.floats(0, 3000)), max_size=200))
def test_it_moves_by_one_level_at_most_and_a_quiet_minute_brings_all_back(steps: list[tuple[float, float]]) -> None:
    governor, now_s = Governor(), 0.0
    for wait_s, margin_ms in steps:
        now_s += wait_s
        before, governor = governor, observed(governor, now_s, margin_ms)
        assert abs(governor.level - before.level) <= 1
        assert governor.level in (0, 1, 2, 3)
    for second in range(60):
        governor = reviewed(governor, now_s + second)
    assert governor.level == 0
