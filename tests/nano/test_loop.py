"""The training loop: stopping and going on changes nothing, and the best judgement is what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.nano.training.loop import (
    SCORE,
    Budget,
    Figures,
    Schedule,
    has_begun,
    load_weights,
    log_lines,
    read_helpers,
    train,
)
from services.shared.errors import MissingFileError

pytestmark = pytest.mark.unit


class _Line:
    """Fits a line; `scores` are what the judge says, one after the other."""

    def __init__(self, scores: list[float] | None = None) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(3, 1)
        self.helpers: nn.Module = nn.Linear(1, 1)
        self._scores = scores

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        x = torch.from_numpy(rng.standard_normal((4, 3)).astype(np.float32))
        noise = torch.randn(4, 1)
        return (self.helpers(self.network(x)) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean(), {"rows": 4.0}

    def judge(self) -> Figures:
        return {SCORE: self._scores.pop(0) if self._scores else 0.0}


def _weights(folder: Path, schedule: Schedule, *calls: Budget) -> dict[str, Tensor]:
    for budget in calls:
        task = _Line()
        train(task, folder, schedule, budget)
    saved: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", weights_only=True)["trained"]
    return saved


def test_a_run_that_was_stopped_and_went_on_equals_one_that_never_was(tmp_path: Path) -> None:
    schedule = Schedule(steps=9, learning_rate=0.1, warm_up_steps=3, average=0.9, judge_every=100)
    straight = _weights(tmp_path / "straight", schedule, Budget())
    parts = _weights(tmp_path / "parts", schedule, Budget(steps=2), Budget(steps=4), Budget())
    assert straight.keys() == parts.keys()
    for name, value in straight.items():
        assert torch.equal(value, parts[name]), name
    kept = [torch.load(tmp_path / run / "weights.pt", weights_only=True) for run in ("straight", "parts")]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_a_budget_stops_the_call_but_does_not_finish_the_schedule(tmp_path: Path) -> None:
    schedule = Schedule(steps=5, learning_rate=0.1)
    assert not train(_Line(), tmp_path, schedule, Budget(steps=2))
    assert train(_Line(), tmp_path, schedule, Budget())


def test_a_finished_schedule_is_not_run_again(tmp_path: Path) -> None:
    schedule = Schedule(steps=3, learning_rate=0.1)
    train(_Line(), tmp_path, schedule, Budget(report_every=1))
    lines = log_lines(tmp_path)
    assert train(_Line(), tmp_path, schedule, Budget(report_every=1))
    assert log_lines(tmp_path) == lines


def test_a_longer_schedule_goes_on_where_a_finished_one_ended(tmp_path: Path) -> None:
    train(_Line(), tmp_path, Schedule(steps=3, learning_rate=0.1), Budget())
    train(_Line(), tmp_path, Schedule(steps=5, learning_rate=0.1), Budget(report_every=1))
    assert [line["step"] for line in log_lines(tmp_path) if "loss" in line] == [4, 5]


def test_the_weights_of_the_best_judgement_are_kept_and_patience_ends_the_training(tmp_path: Path) -> None:
    schedule = Schedule(steps=20, learning_rate=0.1, judge_every=2, patience=2)
    task = _Line(scores=[1.0, 3.0, 2.0, 2.5, 9.0])
    assert train(task, tmp_path, schedule, Budget())
    judged = [line for line in log_lines(tmp_path) if "judge" in line]
    assert [line[SCORE] for line in judged] == [1.0, 3.0, 2.0, 2.5]
    assert json.loads((tmp_path / "done.json").read_text())["stopped_early"]
    kept, last = nn.Linear(3, 1), task.network
    load_weights(kept, tmp_path)
    assert not torch.equal(kept.weight, last.weight)


def test_weights_kept_earlier_are_judged_again_before_others_are_held_against_them(tmp_path: Path) -> None:
    schedule = Schedule(steps=4, learning_rate=0.1, judge_every=2)
    train(_Line(scores=[5.0]), tmp_path, schedule, Budget(steps=2))
    before = torch.load(tmp_path / "weights.pt", weights_only=True)
    train(_Line(scores=[1.0, 2.0]), tmp_path, schedule, Budget())  # on what is held out by now, they are worth 1
    after = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert not torch.equal(before["weight"], after["weight"])


def test_weights_that_no_stage_has_made_are_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="run the stage that trains flow"):
        load_weights(nn.Linear(1, 1), tmp_path / "flow")
    with pytest.raises(MissingFileError, match="run the stage that trains flow"):
        read_helpers(tmp_path / "flow")


def test_what_served_a_training_can_be_read_as_it_was_last(tmp_path: Path) -> None:
    task = _Line()
    assert not has_begun(tmp_path)
    train(task, tmp_path, Schedule(steps=3, learning_rate=0.1), Budget())
    assert has_begun(tmp_path)
    found, wanted = read_helpers(tmp_path), task.helpers.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
