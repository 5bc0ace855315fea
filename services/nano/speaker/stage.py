"""Stage `speaker`: train the speaker encoder and write campplus.onnx. Needs recordings only."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from services.nano.speaker.network import SpeakerNetwork, SpeakerTask, write_onnx
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.training.loop import Budget, Schedule, load_weights, train
from services.nano.training.recorded import read_clips
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import SPEAKER_FILE

TRAIN_FOLDER: Final = "train/speaker"
SCHEDULE: Final = Schedule(steps=3000, learning_rate=2e-3, average=0.99, judge_every=250)
_SEED: Final = 20_261


def run(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Train, and write the file; returns whether the schedule is finished."""
    torch.manual_seed(_SEED)
    task = SpeakerTask(read_clips(work))
    finished = train(task, work / TRAIN_FOLDER, SCHEDULE if steps is None else replace(SCHEDULE, steps=steps), budget)
    if finished:
        network = SpeakerNetwork()
        load_weights(network, work / TRAIN_FOLDER)
        write_onnx(network, work / CHECKPOINT_FOLDER / TTS_FOLDER / VOCODER_FOLDER / SPEAKER_FILE)
    return finished
