"""A pass is given up between two steps once all of its requests are cancelled, and not before."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.shared.errors import CancelledRequestError
from services.vocoder.flow import Flow
from services.vocoder.vocoder import Vocoder, load_vocoder
from services.vocoder.voice import VoiceFeatures
from services.vocoder.wanted import check_wanted, while_wanted
from tests.vocoder.engine.toy import write_folder

pytestmark = pytest.mark.unit


@dataclass
class Request:
    """One that is cancelled after it was asked so often."""

    lives: int

    def is_cancelled(self) -> bool:
        self.lives -= 1
        return self.lives < 0


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Vocoder:
    return load_vocoder(write_folder(tmp_path_factory.mktemp("vocoder") / "folder"))


def steps_made(vocoder: Vocoder, requests: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[int, bool]:
    """How many steps a pass for these requests makes, and whether it is completed."""
    made = 0
    step = Flow.step

    def counted(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return step(*arguments)

    monkeypatch.setattr(Flow, "step", counted)
    tokens = np.arange(50)
    voice = VoiceFeatures(np.zeros(0, np.int64), np.zeros((0, 80), np.float32), np.ones(192, np.float32))

    @while_wanted
    def execute(room: Vocoder, _: list[Any]) -> list[Any]:
        return [room.chunk(tokens, voice, room.initial_state(0), final=True)]

    try:
        execute(vocoder, requests)
    except CancelledRequestError:
        return made, False
    return made, True


@pytest.mark.parametrize(("lives", "made"), [([0], 0), ([3], 3), ([99], 10), ([0, 99], 10), ([2, 4], 6), ([], 10)])
def test_the_pass_stops_at_the_step_at_which_the_last_request_is_gone(
    lives: list[int], made: int, vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(count) for count in lives]
    steps, is_complete = steps_made(vocoder, requests, monkeypatch)
    assert is_complete is (made == 10)
    assert steps == made


def test_outside_of_a_request_all_is_wanted() -> None:
    check_wanted()


def test_requests_that_are_answered_stop_nothing_later(tmp_path: Path) -> None:
    @while_wanted
    def execute(_: None, requests: list[Any]) -> list[Any]:
        return requests

    execute(None, [Request(0)])
    check_wanted()
