"""Parameters outside their range are refused where they are written down."""

from typing import Any

import pytest

from services.shared.errors import InvalidOptionError
from services.shared.sampling import IdRange, SamplingParams

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"seed": -1},
        {"stop_ids": (3, -1)},
    ],
)
def test_a_value_outside_its_range_is_named(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(InvalidOptionError, match=name):
        SamplingParams(**({"max_new_tokens": 1} | changes))


@pytest.mark.parametrize(("first", "end"), [(-1, 4), (4, 4), (5, 4)])
def test_an_empty_range_of_ids_is_refused(first: int, end: int) -> None:
    with pytest.raises(InvalidOptionError, match="range"):
        IdRange(first, end)


def test_the_defaults_are_those_of_the_released_calls() -> None:
    params = SamplingParams(max_new_tokens=5)
    assert (params.temperature, params.top_k, params.top_p) == (0.7, 50, 1.0)
    assert not params.repetition_aware
    assert params.allowed_ids is None
