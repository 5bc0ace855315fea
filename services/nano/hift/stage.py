"""Stage `hift`: train the wave generator and write hift.pt.

Decides: the schedules, what it begins with, and that a later, adversarial training has a folder of its own, so that
either can be the one that is written. Refuses to know: losses.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from services.nano.flow.stage import vocoder_folder
from services.nano.hift.data import WaveCorpus, make_made, make_waves, read_sounds
from services.nano.hift.task import HiftTask, begin
from services.nano.standing import begun_from
from services.nano.tokens.stage import BASE
from services.nano.tokens.store import read_renditions
from services.nano.training.loop import WEIGHTS_FILE, Budget, Schedule, load_weights, train
from services.nano.training.recorded import read_clips
from services.shared.errors import MissingFileError
from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import FLOW_FILE, HIFT_FILE, SPEAKER_FILE, load_config
from services.vocoder.hift import HiFT

TRAIN_FOLDER: Final = "train/hift"
ADVERSARIAL_FOLDER: Final = "train/hift_adversarial"
SCHEDULE: Final = Schedule(steps=8000, learning_rate=1e-3, warm_up_steps=200, weight_decay=0.0, average=0.999, clip=5.0)
ADVERSARIAL_SCHEDULE: Final = replace(SCHEDULE, steps=4000, learning_rate=2e-4)
_SEED: Final = 20_261
_SPOKEN_BY_US: Final = ("assistant", "everyday")

_log = logging.getLogger(__name__)


def run(
    work: Path, budget: Budget, *, steps: int | None = None, adversarial: bool = False, from_nothing: bool = False
) -> bool:
    """Train, and write hift.pt of the best judgement so far.

    Args:
        work: the working folder; `tokens` has run there. Where flow.pt is, its mels take part.
        budget: of this call.
        steps: length of the schedule instead of the recipe's.
        adversarial: go on from the finished training against discriminators, and write that one's weights.
        from_nothing: begin with random weights instead of the standing checkpoint's.

    Returns:
        whether the schedule is finished.

    Raises:
        MissingFileError: a stage before has not run.
    """
    folder = vocoder_folder(work)
    hift = HiFT(load_config(folder).hift)
    torch.manual_seed(_SEED)
    if adversarial:
        load_weights(hift, work / TRAIN_FOLDER)
    elif from_nothing:
        begin(hift, _SEED)
    else:
        standing = (begun_from(work) or BASE.parent) / TTS_FOLDER / VOCODER_FOLDER / HIFT_FILE
        load_strictly(hift, read_torch_state(standing), standing)
    task = HiftTask(hift, prepare(work, folder), adversarial=adversarial)
    schedule = ADVERSARIAL_SCHEDULE if adversarial else SCHEDULE
    train_folder = work / (ADVERSARIAL_FOLDER if adversarial else TRAIN_FOLDER)
    finished = train(task, train_folder, schedule if steps is None else replace(schedule, steps=steps), budget)
    if (train_folder / WEIGHTS_FILE).exists():
        load_weights(hift, train_folder)
        torch.save({name: value.half() for name, value in hift.state_dict().items()}, folder / HIFT_FILE)
    return finished


def prepare(work: Path, folder: Path) -> WaveCorpus:
    """What it learns from: recorded mels, and made ones where the flow has been trained."""
    clips = [clip for clip in read_clips(work) if clip.recording.kind in _SPOKEN_BY_US]
    renditions = read_renditions(work)
    if not renditions:
        raise MissingFileError(f"{work} holds no codec values; run the stage `tokens` first")
    make_waves(work, clips, renditions)
    if (folder / FLOW_FILE).exists() and (folder / SPEAKER_FILE).exists():
        make_made(work, clips, renditions, folder)
    sounds = read_sounds(work, clips)
    made = sum(sound.made is not None for sound in sounds)
    _log.info("hift: %d utterances, %d of them made by the flow as well", len(sounds), made)
    return WaveCorpus(sounds)
