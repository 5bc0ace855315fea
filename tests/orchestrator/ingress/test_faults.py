"""Errors as statuses."""

import logging

import grpc
import pytest

from protos.gen.stepaudio.v1 import errors_pb2
from services.orchestrator.ingress.faults import LONGEST_DETAIL, LONGEST_MESSAGE, Faults, to_status
from services.shared import errors
from services.shared.errors import DeadlineExceededError, InvalidOptionError, OverloadedError, StepAudioError
from tests.orchestrator.ingress.serving import read_status

pytestmark = pytest.mark.unit

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StepAudioError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_told_with_its_reason_and_a_retry_only_where_it_helps(kind: type[StepAudioError]) -> None:
    refusal = read_status(to_status(kind("what is wrong", field="a.b", value="1")))
    assert refusal.code is grpc.StatusCode[kind.grpc_code]
    assert f"ERROR_REASON_{refusal.reason}" in errors_pb2.ErrorReason.keys()  # noqa: SIM118  # an enum, no dict
    assert refusal.details == {"field": "a.b", "value": "1"}
    assert (refusal.retry_s is not None) is kind.retryable


def test_what_a_caller_sent_never_makes_a_trailer_too_large() -> None:
    refusal = read_status(to_status(InvalidOptionError("x" * 100_000, value="é" * 100_000)))
    assert len(refusal.message) == LONGEST_MESSAGE
    assert len(refusal.details["value"]) == LONGEST_DETAIL


def test_text_that_no_message_can_hold_is_told_nonetheless() -> None:
    assert read_status(to_status(InvalidOptionError("\ud800", value="\udfff"))).details == {"value": "?"}


def test_an_unknown_fault_keeps_the_inside_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        told = Faults(new_incident=lambda: "7").told(KeyError("secret"), where="Converse")
    assert (told.reason, told.grpc_code) == ("INTERNAL", "INTERNAL")
    assert "7" in str(told)
    assert "secret" not in str(told)
    assert caplog.records[0].exc_info is not None


def test_of_a_group_the_error_that_was_raised_on_purpose_is_told() -> None:
    group = ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [OverloadedError("full")])])
    assert isinstance(Faults().told(group, where="x"), OverloadedError)


def test_a_wait_that_took_too_long_is_a_deadline() -> None:
    assert isinstance(Faults().told(TimeoutError(), where="x"), DeadlineExceededError)
