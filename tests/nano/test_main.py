"""The command `all`: every stage in order, and a stop behind the first that is not finished."""

import logging
from pathlib import Path

import pytest

from services.nano import __main__ as recipe
from services.nano import standing
from services.nano.hift import stage as hift
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.training.loop import Budget, Schedule
from services.shared.errors import MissingFileError
from tests.conftest import NANO

pytestmark = pytest.mark.unit

TRAININGS = ["tokenizers", "tokens", "speaker", "tts_lm", "chat_lm", "flow", "hift"]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; none of them does anything."""
    names: list[str] = []
    for module in ("packages", "domain", "speech", "export", "progress"):
        monkeypatch.setattr(getattr(recipe, module), "run", lambda *_, name=module, **__: names.append(name))
    return names


def _stages(called: list[str], *, unfinished: str = "") -> dict[str, tuple[object, str]]:
    def stage(name: str) -> object:
        def run(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
            called.append(name)
            return name != unfinished

        return run

    return {name: (stage(name), "") for name in TRAININGS}


def test_all_runs_every_stage_in_order(
    called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert list(recipe._TRAININGS) == TRAININGS
    monkeypatch.setattr(recipe, "_TRAININGS", _stages(called))
    with caplog.at_level(logging.INFO):
        recipe.main(["--work", str(tmp_path), "all"])
    assert called == ["packages", "domain", "speech", *TRAININGS, "export", "progress"]
    assert "all: flow is finished; left are hift, export" in caplog.text


def test_all_stops_behind_the_first_that_is_not_finished_and_says_what_is_left(
    called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recipe, "_TRAININGS", _stages(called, unfinished="chat_lm"))
    with caplog.at_level(logging.INFO):
        recipe.main(["--work", str(tmp_path), "all", "--no-speech", "--minutes", "1"])
    assert called == ["packages", "domain", *TRAININGS[:5]]
    assert "all: chat_lm stopped; left are chat_lm, flow, hift, export" in caplog.text


def test_after_a_checkpoint_was_taken_over_its_tokenizers_and_speaker_encoder_stay(
    called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recipe, "_TRAININGS", _stages(called))
    recipe.main(["--work", str(tmp_path), "begin"])
    recipe.main(["--work", str(tmp_path), "all", "--no-speech"])
    assert called == ["packages", "domain", "tokens", "tts_lm", "chat_lm", "flow", "hift", "export", "progress"]
    lent = sorted((tmp_path / CHECKPOINT_FOLDER).rglob("*.*"))
    assert {path.suffix for path in lent} >= {".pt", ".npy", ".onnx"}
    assert all(
        path.read_bytes() == (NANO / path.relative_to(tmp_path / CHECKPOINT_FOLDER)).read_bytes()
        for path in lent
        if path.is_file()
    )


def test_what_was_taken_over_can_be_taken_over_again(tmp_path: Path) -> None:
    standing.run(tmp_path, NANO)
    standing.run(tmp_path, tmp_path / standing.FOLDER)
    assert len(list((tmp_path / standing.FOLDER).rglob("*.*"))) == len(list(NANO.rglob("*.*")))


def test_what_goes_on_from_a_checkpoint_learns_at_a_lower_rate(tmp_path: Path) -> None:
    schedule = Schedule(steps=10, learning_rate=1.0)
    assert standing.eased(schedule, tmp_path) == schedule
    standing.run(tmp_path, NANO)
    eased = standing.eased(schedule, tmp_path)
    assert 0 < eased.learning_rate < 0.5
    assert eased.steps == schedule.steps


def test_only_a_checkpoint_can_be_taken_over(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"campplus\.onnx"):
        recipe.main(["--work", str(tmp_path / "work"), "begin", "--checkpoint", str(tmp_path)])
    assert standing.begun_from(tmp_path / "work") is None


def test_hift_passes_on_how_it_is_to_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, object] = {}

    def run(work: Path, budget: Budget, **chosen: object) -> bool:
        asked.update(chosen)
        return True

    monkeypatch.setattr(hift, "run", run)
    recipe.main(["--work", str(tmp_path), "hift", "--steps", "7", "--from-nothing"])
    assert asked == {"steps": 7, "adversarial": False, "from_nothing": True}
