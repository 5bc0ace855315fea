"""What a replica records: conversations as they were, without a word if none is wanted, and never too much."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.orchestrator.conversation.events import Detached, Event, TextTurn, VoiceFrame
from services.orchestrator.conversation.options import Options
from services.orchestrator.pipeline.core import Beginning, PureCore
from services.orchestrator.replay.lines import Content, read_recording
from services.orchestrator.replay.player import first_difference
from services.orchestrator.replay.recorder import Recorder, RecordingLimits
from services.shared.errors import InvalidOptionError
from tests.orchestrator.replay.scenarios import SCENARIOS, record

pytestmark = pytest.mark.unit
BEGINNING = Beginning(Options(), (), 22_050, session_id="session")


@pytest.mark.parametrize("content", Content)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recorded_conversation_is_decided_again_with_its_words_and_without(
    name: str, content: Content, tmp_path: Path
) -> None:
    path = record(name, tmp_path, content=content)
    recording = read_recording(path.read_bytes())
    assert not recording.is_cut
    difference = first_difference(recording)
    assert difference is None, str(difference)
    text = path.read_text()
    assert ("umbrella" in text) is (content is Content.TEXT)
    if content is Content.SHAPES:
        assert not {word for word in ("rains", "Lisbon", "coat", "weather", "moment", "answer") if word in text}
    assert '"samples":null' in text


def test_nothing_is_recorded_unless_it_is_asked_for(tmp_path: Path) -> None:
    core = PureCore(BEGINNING)
    core.step(Detached(1.0))
    assert list(tmp_path.iterdir()) == []


def frames(count: int) -> Iterator[Event]:
    return (VoiceFrame(1.0 + place, 512 * (place + 1), 0.1) for place in range(count))


def test_a_recording_ends_before_it_is_too_large_and_the_conversation_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = RecordingLimits(session_bytes=5_000)
    with Recorder(tmp_path, limits=limits) as recorder:
        core = recorder(BEGINNING)
        for event in frames(200):
            core.step(event)
        core.step(TextTurn(500.0, "a", "hello"))
        assert core.is_replying
    path = tmp_path / "session-1.jsonl"
    assert 4_800 < path.stat().st_size <= 5_000
    recording = read_recording(path.read_bytes())
    assert recording.is_cut
    assert 10 < len(recording.steps) < 200
    assert [entry.message for entry in caplog.records].count(
        "a recording ends before its session: there is no more room"
    ) == 1


def test_all_recordings_together_have_a_bound_that_those_of_earlier_processes_count_to(tmp_path: Path) -> None:
    (tmp_path / "before-1.jsonl").write_bytes(bytes(9_000))
    with Recorder(tmp_path, limits=RecordingLimits(total_bytes=12_000)) as recorder:
        first, second = recorder(BEGINNING), recorder(BEGINNING)
        for event in frames(100):
            first.step(event)
            second.step(event)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) <= 12_000 + 2 * 20
    assert all(read_recording((tmp_path / f"session-{part}.jsonl").read_bytes()).is_cut for part in (1, 2))


def test_a_session_that_comes_back_gets_another_file(tmp_path: Path) -> None:
    for _ in range(2):
        with Recorder(tmp_path) as recorder:
            recorder(BEGINNING).step(Detached(1.0))
    assert {path.name for path in tmp_path.iterdir()} == {"session-1.jsonl", "session-2.jsonl"}
    for path in tmp_path.iterdir():
        assert len(read_recording(path.read_bytes()).steps) == 1


def test_a_disk_that_fails_ends_the_recording_and_no_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    with Recorder(folder) as recorder:
        core = recorder(BEGINNING)
        (folder / "session-1.jsonl").unlink()
        (folder / "session-1.jsonl").mkdir()
        core.step(TextTurn(1.0, "a", "hello"))
        assert core.is_replying
    assert any("could not be written" in entry.message for entry in caplog.records)


def test_a_folder_that_cannot_be_had_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidOptionError, match="recordings cannot be kept"), Recorder(tmp_path / "file" / "folder"):
        pass


def test_an_event_that_the_core_fails_at_is_the_last_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with Recorder(tmp_path) as recorder:
        core = recorder(BEGINNING)
        monkeypatch.setattr("services.orchestrator.conversation.core.review_trial", fail)
        with pytest.raises(ZeroDivisionError):
            core.step(TextTurn(1.0, "a", "hello"))
    recording = read_recording((tmp_path / "session-1.jsonl").read_bytes())
    assert '"raised":"ZeroDivisionError"' in recording.steps[-1].line
    assert first_difference(recording) is None
    monkeypatch.undo()
    assert first_difference(recording) is not None


def test_a_fault_of_the_recorder_is_logged_and_harms_no_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError

    with Recorder(tmp_path) as recorder:
        core = recorder(BEGINNING)
        monkeypatch.setattr("services.orchestrator.replay.recorder.write_step", fail)
        core.step(TextTurn(1.0, "a", "hello"))
        assert core.is_replying
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
