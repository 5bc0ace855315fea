"""Stage `report`: how far every training has come, as a table in <work>/report.md and in the model card.

Decides: which trainings there are and which figures count. Refuses to know: how they are made.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.nano.domain import build_domain
from services.nano.flow.stage import MU_FOLDER
from services.nano.flow.stage import TRAIN_FOLDER as FLOW_FOLDER
from services.nano.hift.stage import ADVERSARIAL_FOLDER
from services.nano.hift.stage import TRAIN_FOLDER as HIFT_FOLDER
from services.nano.lm.stage import CHAT_TRAIN_FOLDER, TTS_TRAIN_FOLDER
from services.nano.plan import build_plan
from services.nano.speaker.stage import TRAIN_FOLDER as SPEAKER_FOLDER
from services.nano.speech import Recording, read_recordings
from services.nano.standing import begun_from
from services.nano.tokenizers.stage import (
    LINGUISTIC_CODES_FOLDER,
    LINGUISTIC_FOLDER,
    SEMANTIC_CODES_FOLDER,
    SEMANTIC_FOLDER,
)
from services.nano.training.loop import SCORE, has_finished, log_lines

REPORT_FILE: Final = "report.md"
_LENT: Final = (
    LINGUISTIC_FOLDER,
    SEMANTIC_FOLDER,
    LINGUISTIC_CODES_FOLDER,
    SEMANTIC_CODES_FOLDER,
    SPEAKER_FOLDER,
)
"""Trainings that a checkpoint spares which was taken over."""
_TRAININGS: Final = (
    *_LENT,
    TTS_TRAIN_FOLDER,
    CHAT_TRAIN_FOLDER,
    MU_FOLDER,
    FLOW_FOLDER,
    HIFT_FOLDER,
    ADVERSARIAL_FOLDER,
)
_SECONDS_AN_HOUR: Final = 3600.0

_log = logging.getLogger(__name__)


def run(work: Path) -> None:
    """Write the report and log it."""
    recordings = read_recordings(work)
    text = f"{data_table(recordings)}\n{training_table(work)}\n{_left(work, len(recordings))}"
    (work / REPORT_FILE).write_text(text)
    _log.info("report in %s\n%s", work / REPORT_FILE, text)


def _left(work: Path, recorded: int) -> str:
    """What is not there yet, in the order of the stages."""
    planned = len(build_plan(build_domain()))
    left = [f"speech ({recorded} of {planned} recordings)"] if recorded < planned else []
    spared = (ADVERSARIAL_FOLDER, *(_LENT if begun_from(work) else ()))
    left += [Path(name).name for name in _TRAININGS if name not in spared and not has_finished(work / name)]
    return f"Left: {', '.join([*left, 'export'])}.\n"


def data_table(recordings: Sequence[Recording]) -> str:
    """Recordings and hours of each kind, in Markdown."""
    counts = Counter(recording.kind for recording in recordings)
    hours = dict.fromkeys(counts, 0.0)
    for recording in recordings:
        hours[recording.kind] += recording.seconds / _SECONDS_AN_HOUR
    lines = [f"| {kind} | {count} | {hours[kind]:.2f} |" for kind, count in counts.items()]
    return "\n".join(["| speech | recordings | hours |", "|---|---|---|", *lines, ""])


def training_table(work: Path) -> str:
    """Steps, CPU hours, last loss and best judgement of each training that has begun, in Markdown."""
    lines = ["| training | steps | CPU hours | loss | best judgement |", "|---|---|---|---|---|"]
    for name in _TRAININGS:
        log = log_lines(work / name)
        if not log:
            continue
        judged = [line for line in log if "judge" in line]
        best = max(judged, key=lambda line: line[SCORE], default={})
        figures = {key: value for key, value in best.items() if key not in ("step", "cpu_s", "judge")}
        hours = log[-1]["cpu_s"] / _SECONDS_AN_HOUR
        loss = next((line["loss"] for line in reversed(log) if "loss" in line), "-")
        cells = (Path(name).name, log[-1]["step"], f"{hours:.2f}", loss, json.dumps(figures) if figures else "-")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, ""])


def cpu_hours(work: Path) -> float:
    """CPU hours of all trainings so far."""
    logs = (log_lines(work / name) for name in _TRAININGS)
    return sum(float(log[-1]["cpu_s"]) for log in logs if log) / _SECONDS_AN_HOUR
