"""Speaking a plan can be stopped anywhere and goes on without losing or repeating a recording."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.nano import speech
from services.nano.alignment import TimedSpeech
from services.nano.kokoro import Delivery
from services.nano.phones import Phone
from services.nano.plan import Utterance
from services.shared.errors import NothingToSpeakError

pytestmark = pytest.mark.unit
PLAN = [Utterance("user", text, "", 0, Delivery((("af_sky", 1.0),))) for text in ("One.", "Two.", "Three.", "Four.")]


class _Speaker:
    """Says half a second of noise; stops with an error at the text it is told."""

    def __init__(self, fails_at: str = "") -> None:
        self.said: list[str] = []
        self._fails_at = fails_at

    def __call__(self, utterance: Utterance) -> TimedSpeech:
        if utterance.text == self._fails_at:
            raise KeyboardInterrupt
        self.said.append(utterance.text)
        samples = np.random.default_rng(0).uniform(-2, 2, 12_000).astype(np.float32)
        return TimedSpeech(samples, 24_000, ("_", "n", "_"), (3_000, 9_000, 12_000))


@pytest.fixture(autouse=True)
def _short_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "build_plan", lambda _: PLAN)


def test_a_stopped_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    first, second = _Speaker(fails_at="Three."), _Speaker()
    with pytest.raises(KeyboardInterrupt):
        speech.speak_all(PLAN, tmp_path, first, pause_file=tmp_path / "PAUSE")
    speech.speak_all(PLAN, tmp_path, second, pause_file=tmp_path / "PAUSE")
    assert (first.said, second.said) == (["One.", "Two."], ["Three.", "Four."])
    assert [recording.text for recording in speech.read_recordings(tmp_path)] == ["One.", "Two.", "Three.", "Four."]


def test_stopped_early_every_kind_has_its_share() -> None:
    often = [Utterance("user", f"{n}.", "", 0, Delivery((("af_sky", 1.0),))) for n in range(40)]
    seldom = [Utterance("everyday", f"{n}.", "", 0, Delivery((("af_sky", 1.0),))) for n in range(10)]
    plan = speech.side_by_side(often + seldom)
    assert [utterance.kind for utterance in plan[:25]].count("everyday") == 5
    assert [utterance for utterance in plan if utterance.kind == "user"] == often
    assert sorted(utterance.identity for utterance in plan) == sorted(one.identity for one in often + seldom)


def test_a_line_cut_off_by_a_stop_is_spoken_again(tmp_path: Path) -> None:
    speech.speak_all(PLAN[:2], tmp_path, _Speaker(), pause_file=tmp_path / "PAUSE")
    manifest = tmp_path / speech.FOLDER / speech.MANIFEST_FILE
    manifest.write_text(manifest.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    again = _Speaker()
    speech.speak_all(PLAN[:2], tmp_path, again, pause_file=tmp_path / "PAUSE")
    assert again.said == ["Two."]
    assert [json.loads(line)["text"] for line in manifest.read_text(encoding="utf-8").splitlines()] == ["One.", "Two."]


def test_a_recording_comes_back_with_its_sound_and_phones(tmp_path: Path) -> None:
    speech.speak_all(PLAN[:1], tmp_path, _Speaker(), pause_file=tmp_path / "PAUSE")
    (recording,) = speech.read_recordings(tmp_path)
    samples, rate = soundfile.read(recording.path)
    assert (samples.size, rate, recording.seconds) == (12_000, 24_000, 0.5)
    assert np.abs(samples).max() < 1.0
    assert recording.voices == (("af_sky", 1.0),)
    assert recording.phones == [Phone("_", 0, 3_000), Phone("n", 3_000, 9_000), Phone("_", 9_000, 12_000)]


def test_a_text_without_sound_is_skipped(tmp_path: Path) -> None:
    def mute(utterance: Utterance) -> TimedSpeech:
        raise NothingToSpeakError(utterance.text)

    speech.speak_all(PLAN, tmp_path, mute, pause_file=tmp_path / "PAUSE")
    assert speech.read_recordings(tmp_path) == []


def test_nothing_is_spoken_while_the_pause_file_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, speaker, asleep = tmp_path / "PAUSE", _Speaker(), threading.Event()
    pause.touch()

    def wake(_: float) -> None:
        assert speaker.said == []
        asleep.set()
        pause.unlink()

    monkeypatch.setattr("services.nano.speech.time.sleep", wake)
    speech.speak_all(PLAN, tmp_path, speaker, pause_file=pause)
    assert asleep.is_set()
    assert len(speaker.said) == len(PLAN)
