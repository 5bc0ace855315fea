"""Whose work a request is, there and back."""

import json

import pytest

from services.shared.errors import InvalidInputError
from services.shared.triton.context import RequestContext, parse_context

pytestmark = pytest.mark.unit


def test_a_context_comes_back_from_the_parameters_it_was_sent_as() -> None:
    for context in (RequestContext("s1", 3, 7), RequestContext("s1", 3, 7, "00-ab-cd-01", slack_ms=120)):
        assert parse_context(json.dumps(context.parameters)) == context


def test_a_trace_is_carried_also_for_work_without_a_session() -> None:
    context = RequestContext(traceparent="00-ab-cd-01")
    assert context.parameters == {"traceparent": "00-ab-cd-01"}
    assert parse_context(json.dumps(context.parameters)) == context


def test_a_traceparent_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="traceparent 5"):
        parse_context('{"traceparent": 5}')


@pytest.mark.parametrize("wrong", ["-1", '"soon"', "true", "1.5"])
def test_a_slack_that_is_no_whole_number_from_0_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInputError, match="slack_ms"):
        parse_context(f'{{"slack_ms": {wrong}}}')


@pytest.mark.parametrize(
    ("slack_ms", "level"), [(0, 1), (99, 1), (100, 2), (1_999, 20), (3_099, 31), (3_100, 32), (60_000, 32)]
)
def test_what_is_due_sooner_is_at_a_level_that_is_taken_sooner(slack_ms: int, level: int) -> None:
    assert RequestContext(slack_ms=slack_ms).priority == level


@pytest.mark.parametrize("text", ["", "{}", '{"sequence_start": true}'])
def test_work_without_a_session_belongs_to_none(text: str) -> None:
    assert parse_context(text) == RequestContext()
    assert RequestContext().parameters == {}


@pytest.mark.parametrize("wrong", [{"session": 5}, {"session": "a", "turn": "2"}, {"session": "a", "epoch": 1.5}])
def test_a_part_of_a_wrong_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="the first must be text"):
        parse_context(json.dumps(wrong))
