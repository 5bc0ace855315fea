"""Stage `begin`: take over a checkpoint that stands, where the working folder of its trainings is gone.

Decides: what is taken as it is (tokenizers, speaker encoder), where the stages find what their networks begin with, and
how much slower they then learn. Refuses to know: networks and training.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.training.loop import Schedule
from services.shared.files import require_file
from services.shared.paths import TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import SPEAKER_FILE

FOLDER: Final = "begun_from"
LENT: Final = frozenset({"tokenizers", "speaker"})
"""Stages whose results are taken over."""
_RATE_SHARE: Final = 0.15
_SPEAKER: Final = Path(TTS_FOLDER) / VOCODER_FOLDER / SPEAKER_FILE

_log = logging.getLogger(__name__)


def run(work: Path, checkpoint: Path) -> None:
    """Keep a copy of the checkpoint, and put its tokenizers and speaker encoder where the stages would have.

    Raises:
        MissingFileError: the folder holds no checkpoint of this recipe.
    """
    require_file(checkpoint, str(_SPEAKER))
    kept, target = work / FOLDER, work / CHECKPOINT_FOLDER
    if checkpoint.resolve() != kept.resolve():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(checkpoint, kept)
    shutil.copytree(kept / TOKENIZER_FOLDER, target / TOKENIZER_FOLDER, dirs_exist_ok=True)
    (target / _SPEAKER).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept / _SPEAKER, target / _SPEAKER)
    _log.info("begin: trainings without a run of their own go on from %s", checkpoint)


def begun_from(work: Path) -> Path | None:
    """The checkpoint whose weights trainings begin with, or None where they begin from nothing."""
    return work / FOLDER if (work / FOLDER).exists() else None


def eased(schedule: Schedule, work: Path) -> Schedule:
    """A schedule at a lower rate where it goes on from a checkpoint: the full one undoes what that has learned."""
    if begun_from(work) is None:
        return schedule
    return replace(schedule, learning_rate=schedule.learning_rate * _RATE_SHARE)
