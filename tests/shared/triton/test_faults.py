"""Errors cross Triton with their class."""

import pytest

from services.shared.errors import (
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    PromptTooLongError,
    RoomUnavailableError,
    StepAudioError,
)
from services.shared.triton.faults import read_fault, write_fault

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("before", ["", "[request id: <id_unknown>] "])
def test_a_rooms_error_comes_back_as_the_same_class_with_its_message(before: str) -> None:
    carried = before + write_fault(PromptTooLongError("a prompt of 9000 tokens: too long"))
    error = read_fault("step1_chat", "INTERNAL", carried)
    assert type(error) is PromptTooLongError
    assert str(error) == "step1_chat: a prompt of 9000 tokens: too long"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", InvalidInputError),
        ("DEADLINE_EXCEEDED", DeadlineExceededError),
        ("RESOURCE_EXHAUSTED", OverloadedError),
        ("UNKNOWN", StepAudioError),
    ],
)
def test_what_triton_itself_says_is_classed_by_its_code(code: str, kind: type[StepAudioError]) -> None:
    error = read_fault("token_to_wave", code, "unexpected shape for input 'seed'")
    assert type(error) is kind
    assert "token_to_wave: unexpected shape" in str(error)


def test_where_a_server_that_is_away_would_be_is_not_told() -> None:
    error = read_fault("step1_tts", "UNAVAILABLE", "connection to ipv4:10.0.0.7:8001 refused")
    assert (type(error), str(error)) == (RoomUnavailableError, "step1_tts: no server of it answers")


def test_a_class_that_is_not_of_the_tree_is_not_trusted() -> None:
    assert type(read_fault("step1_tts", "INTERNAL", "KeyError: 'weights'")) is StepAudioError
