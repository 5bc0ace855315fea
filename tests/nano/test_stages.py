"""The stages in their order on a few seconds of made-up speech: the rooms' own loaders open what they write."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from services.lm.chat import load_chat_lm
from services.nano import export, progress, speech, standing
from services.nano.flow import data as flow_data
from services.nano.flow import stage as flow
from services.nano.flow import task as flow_task
from services.nano.hift import data as hift_data
from services.nano.hift import stage as hift
from services.nano.lm import stage as lm
from services.nano.lm import task as lm_task
from services.nano.speaker import network as speaker_network
from services.nano.speaker import stage as speaker
from services.nano.speech import read_recordings
from services.nano.tokenizers import stage as tokenizers
from services.nano.tokens import stage as tokens
from services.nano.tokens.store import read_renditions
from services.nano.training import batches, recorded
from services.nano.training.loop import Budget
from services.nano.training.recorded import RATE_HZ, read_clips
from services.shared.nn.checkpoint import read_torch_state
from services.shared.nn.step1.weights import WEIGHTS_FILE
from services.shared.paths import CHAT_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.shared.sampling.generation_config import GENERATION_FILE
from services.shared.voices import VoiceRegistry
from services.tokenizer import load_speech_tokenizer
from services.tts.speech_lm import load_speech_lm
from services.vocoder import load_vocoder
from services.vocoder.config import FLOW_FILE, HIFT_FILE
from tests.conftest import NANO

pytestmark = pytest.mark.integration


def test_labels_follow_the_recorded_phones(spoken_work: Path) -> None:
    clip = read_clips(spoken_work)[0]
    assert len(clip.samples) == pytest.approx(clip.recording.seconds * RATE_HZ, abs=2)
    moments = np.array([-0.1, 0.05, 0.12, clip.recording.seconds + 1])
    assert clip.labels_at(moments).tolist() == [0, 0, clip.labels[1], 0]
    assert clip.labels[1] != 0


@pytest.fixture
def small(spoken_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few sequences, and no recordings but those of `spoken_work`."""
    recordings = read_recordings(spoken_work)  # the plan is long, and nothing is added to it here
    for module in (recorded, export, progress):
        monkeypatch.setattr(module, "read_recordings", lambda work: recordings)
    monkeypatch.setattr(batches, "BATCH_S", 6.0)
    monkeypatch.setattr(speaker_network, "_BATCH", 4)
    monkeypatch.setattr(lm, "_CHAT_BATCH", 2)
    monkeypatch.setattr(lm, "_TTS_BATCH", 2)
    monkeypatch.setattr(lm_task, "_DRAWN_A_KEPT", 1)
    monkeypatch.setattr(flow_data, "BATCH", 2)
    monkeypatch.setattr(flow_data, "_JUDGED", 1)
    monkeypatch.setattr(flow_task, "_JUDGED_BATCHES", 1)
    monkeypatch.setattr(hift_data, "BATCH", 1)
    monkeypatch.setattr(hift_data, "MADE_MOST", 1)
    monkeypatch.setattr(hift_data, "_JUDGED", 1)


@pytest.mark.timeout(600)
def test_one_step_from_a_standing_checkpoint_stays_near_it(spoken_work: Path, tmp_path: Path, small: None) -> None:
    shutil.copytree(spoken_work / speech.FOLDER, tmp_path / speech.FOLDER)
    standing.run(tmp_path, NANO)
    for run in (tokens.run, lm.run_tts, lm.run_chat, flow.run, hift.run):
        assert run(tmp_path, Budget(), steps=None if run is tokens.run else 1)
    vocoder = Path(TTS_FOLDER) / VOCODER_FOLDER
    files = [
        Path(CHAT_FOLDER) / WEIGHTS_FILE,
        Path(TTS_FOLDER) / WEIGHTS_FILE,
        vocoder / FLOW_FILE,
        vocoder / HIFT_FILE,
    ]
    for file in files:
        before, after = (_weights(folder / file) for folder in (NANO, tmp_path / tokenizers.CHECKPOINT_FOLDER))
        assert before.keys() == after.keys()
        moved = {name: float((after[name].float() - before[name].float()).abs().max()) for name in before}
        assert 0 < max(moved.values()) < 0.02, max(moved, key=moved.__getitem__)
    progress.run(tmp_path)
    assert (tmp_path / progress.REPORT_FILE).read_text().rstrip().endswith("recordings), export.")


def _weights(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.suffix == ".safetensors" else read_torch_state(path)


@pytest.mark.timeout(1200)
def test_five_steps_of_every_stage_give_a_checkpoint_that_the_rooms_open(spoken_work: Path, small: None) -> None:
    recordings = read_recordings(spoken_work)
    work, budget = spoken_work, Budget()
    stages = (tokenizers.run, tokens.run, speaker.run, lm.run_tts, lm.run_chat, flow.run)
    for run in stages:
        assert run(work, budget, steps=None if run is tokens.run else 5)
    rows = [json.loads(line) for line in (work / flow_data.FOLDER / "index.jsonl").read_text().splitlines()[1:]]
    known = {one.identity: one for one in recordings}
    assert {known[identity].kind for identity, *_ in rows} == {"assistant", "user"}
    assert all(len(known[identity].voices) == 1 for identity, *_ in rows)
    assert all(number == 0 for identity, number, *_ in rows if known[identity].kind == "user")
    mu = (work / flow.MU_FOLDER / "log.jsonl").read_text()
    assert flow.run(work, budget, steps=6)
    assert (work / flow.MU_FOLDER / "log.jsonl").read_text() == mu  # a longer schedule does not begin with mu again
    export.run(work)
    folder = work / export.FOLDER
    made_here = TTS_FOLDER + "/" + VOCODER_FOLDER + "/hift.pt"
    assert (folder / made_here).read_bytes() == (NANO / made_here).read_bytes()  # nothing has trained one yet
    assert hift.run(work, budget, steps=2)
    assert hift.run(work, budget, steps=2, adversarial=True)
    export.run(work)
    assert (folder / made_here).read_bytes() != (NANO / made_here).read_bytes()
    for model in (CHAT_FOLDER, TTS_FOLDER):
        assert (folder / model / GENERATION_FILE).read_bytes() == (NANO / model / GENERATION_FILE).read_bytes()
    clip = read_clips(work)[0]
    room = load_speech_tokenizer(folder / TOKENIZER_FOLDER).tokenize(clip.samples, RATE_HZ)
    assert set(room.semantic // 1024) == {0, 1, 2}
    assert len(room.interleaved) % 5 == 0
    load_speech_lm(folder / TTS_FOLDER)
    load_chat_lm(folder / CHAT_FOLDER)
    vocoder = load_vocoder(folder / TTS_FOLDER / VOCODER_FOLDER)
    voice = VoiceRegistry.load(folder / TTS_FOLDER).get("Mike").audio()
    features = vocoder.voice_features(voice.samples, voice.sample_rate_hz, room.interleaved)
    assert np.isfinite(vocoder.wave(room.interleaved, features, seed=0)).all()
    assert all(len(rendition.values) % 5 == 0 for own in read_renditions(work).values() for rendition in own)
    progress.run(work)
    report = (work / progress.REPORT_FILE).read_text()
    assert all(name in report for name in ("linguistic", "semantic", "speaker", "tts_lm", "chat_lm", "flow", "hift"))
    assert "Left: speech (" in report
    assert report.rstrip().endswith("recordings), export.")
