"""Recorded conversations are decided again as they were, each file of tests/data/recordings to the byte."""

import json
from pathlib import Path

import pytest

from services.orchestrator.conversation import tables
from services.orchestrator.conversation.tables import AgentMove, AgentState
from services.orchestrator.replay.__main__ import main
from services.orchestrator.replay.lines import END_BY_SIZE, read_recording
from services.orchestrator.replay.player import first_difference, replayed
from services.shared.errors import InvalidInputError
from tests.conftest import DATA
from tests.orchestrator.replay.scenarios import SCENARIOS

pytestmark = pytest.mark.unit
FILES = sorted((DATA / "recordings").glob("*.jsonl"))
ONE = DATA / "recordings" / "false_interruption.jsonl"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_conversation_is_decided_again_to_the_byte(path: Path) -> None:
    recording = read_recording(path.read_bytes())
    assert len(recording.steps) > 40
    difference = first_difference(recording)
    assert difference is None, str(difference)
    assert replayed(recording).encode() == path.read_bytes()


def test_every_scenario_has_its_recording() -> None:
    assert {path.stem for path in FILES} == set(SCENARIOS)


def test_another_decision_is_told_with_the_event_and_what_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {row: after for row, after in tables._AGENT.items() if row != (AgentState.IDLE, AgentMove.RESUME)}
    monkeypatch.setattr(tables, "_AGENT", without)
    difference = first_difference(read_recording(ONE.read_bytes()))
    assert difference is not None
    told = str(difference)
    assert "TimeReached at" in told
    assert f"of {difference.of} (line {difference.step.number})" in told
    assert "--- recorded" in told
    assert '- "state": "Silence Replying attached epoch 2 turns [1:replying]"' in told
    assert '+ "state": "Silence Idle attached epoch 2 turns [1:replying]"' in told
    assert "has no words" not in told


def test_a_core_that_fails_where_it_did_not_is_a_difference_with_the_kind_of_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("services.orchestrator.conversation.core.review_trial", fail)
    difference = first_difference(read_recording(ONE.read_bytes()))
    assert difference is not None
    assert '"raised": "ZeroDivisionError"' in str(difference)


def damaged(edit: dict[int, bytes]) -> bytes:
    lines = ONE.read_bytes().split(b"\n")
    for place, line in edit.items():
        lines[place] = line
    return b"\n".join(lines)


HEAD = json.loads(ONE.read_bytes().split(b"\n")[0])


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"", 1, "no first line"),
        (b"hello\n", 1, "no JSON"),
        (b"{}\n", 1, "does not begin a recording"),
        (b"\xff\xfe\n", 1, "no text"),
        (damaged({0: b'{"recording":2}'}), 1, "version 2"),
        (damaged({0: json.dumps({**HEAD, "content": "all"}).encode()}), 1, "Content"),
        (damaged({0: json.dumps({**HEAD, "more": 1}).encode()}), 1, "more"),
        (damaged({7: b'{"event":{"is":"VoiceFrame","at_s":1.0}}'}), 8, "end_sample"),
        (damaged({7: b'{"event":{"is":"Sneeze","at_s":1.0}}'}), 8, "Sneeze"),
        (damaged({7: b'{"event":{"is":"Detached","at_s":"soon"}}'}), 8, "Detached.at_s: a number"),
        (damaged({7: b'{"event":{"is":"Detached","at_s":1e999}}'}), 8, "inf"),
        (damaged({7: b'{"event":{"is":"Detached","at_s":1.0},"more":1}'}), 8, "no step"),
        (damaged({7: b'{"event":{"is":"Deta'}), 8, "no JSON"),
        (damaged({7: END_BY_SIZE.encode()}), 8, "no step"),
        (damaged({7: b"[" * 100_000}), 8, "no JSON"),
    ],
)
def test_a_damaged_file_is_refused_with_the_line(data: bytes, line: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=says) as refused:
        read_recording(data)
    assert refused.value.details["field"] == f"line {line}"
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(data)
    assert main([str(path)]) == 2


def test_a_recording_that_was_cut_is_played_as_far_as_it_goes() -> None:
    data = ONE.read_bytes()
    whole = read_recording(data)
    torn = read_recording(data[:-20])
    assert (whole.is_cut, torn.is_cut) == (False, True)
    assert torn.steps == whole.steps[:-1]
    assert first_difference(torn) is None
    full = read_recording(data + END_BY_SIZE.encode() + b"\n")
    assert full.is_cut
    assert full.steps == whole.steps


def test_the_command_says_how_each_file_went_and_accepts_what_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, changed = tmp_path / "good.jsonl", tmp_path / "changed.jsonl"
    good.write_bytes(ONE.read_bytes())
    changed.write_bytes(ONE.read_bytes().replace(b'"heard_samples":', b'"heard_samples":1', 1))
    assert main([str(good)]) == 0
    assert "277 events, as recorded" in capsys.readouterr().out
    assert main([str(good), str(changed)]) == 1
    assert "differs" in capsys.readouterr().out
    assert main(["--accept", str(changed)]) == 0
    assert changed.read_bytes() == ONE.read_bytes()
    assert main([str(tmp_path / "absent.jsonl")]) == 2
