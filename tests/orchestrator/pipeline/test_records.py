"""Turns as they are kept: their times are those that the client is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation.record import Origin, Outcome, TurnMetrics, TurnRecord
from services.orchestrator.ingress.records import kept_turn_message, turn_message
from services.orchestrator.pipeline.records import ended_turn, kept_turn

pytestmark = pytest.mark.unit

WALL_S = st.floats(1.6e9, 2.2e9)
MOMENT_S = st.floats(0, 1e7)


def turn(started_s: float, ended_s: float) -> TurnRecord:
    return TurnRecord(1, Origin.SPEECH, "Hi", "Hello", Outcome.COMPLETED, started_s, ended_s, TurnMetrics())


@given(MOMENT_S, MOMENT_S, WALL_S)
def test_a_turn_has_the_same_times_in_its_event_and_in_the_list(
    started_s: float, ended_s: float, wall_s: float
) -> None:
    record = turn(started_s, ended_s)
    told, listed = turn_message(record, wall_s), kept_turn_message(kept_turn(record, wall_s))
    assert (told.start_time, told.end_time) == (listed.start_time, listed.end_time)


@given(MOMENT_S, MOMENT_S, WALL_S, WALL_S)
def test_a_turn_that_is_told_again_by_another_replica_has_the_same_times(
    started_s: float, ended_s: float, wall_s: float, other_wall_s: float
) -> None:
    kept = kept_turn(turn(started_s, ended_s), wall_s)
    again = turn_message(ended_turn(kept, other_wall_s, reply_rate_hz=24_000).record, other_wall_s)
    listed = kept_turn_message(kept)
    assert (again.start_time, again.end_time) == (listed.start_time, listed.end_time)
