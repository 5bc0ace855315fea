"""Stage `report`: how far every training has come, as a table in <work>/report.md and in the model card.

Decides: which trainings there are and which figures count. Refuses to know: how they are made.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.nano.flow.stage import MU_FOLDER
from services.nano.flow.stage import TRAIN_FOLDER as FLOW_FOLDER
from services.nano.lm.stage import CHAT_TRAIN_FOLDER, TTS_TRAIN_FOLDER
from services.nano.speaker.stage import TRAIN_FOLDER as SPEAKER_FOLDER
from services.nano.speech import Recording, read_recordings
from services.nano.tokenizers.stage import LINGUISTIC_FOLDER, SEMANTIC_FOLDER
from services.nano.training.loop import SCORE, log_lines

REPORT_FILE: Final = "report.md"
_TRAININGS: Final = (
    *(LINGUISTIC_FOLDER, SEMANTIC_FOLDER, SPEAKER_FOLDER, TTS_TRAIN_FOLDER, CHAT_TRAIN_FOLDER, MU_FOLDER, FLOW_FOLDER),
)
_SECONDS_AN_HOUR: Final = 3600.0

_log = logging.getLogger(__name__)


def run(work: Path) -> None:
    """Write the report and log it."""
    text = f"{data_table(read_recordings(work))}\n{training_table(work)}"
    (work / REPORT_FILE).write_text(text)
    _log.info("report in %s\n%s", work / REPORT_FILE, text)


def data_table(recordings: Sequence[Recording]) -> str:
    """Recordings and hours of each kind, in Markdown."""
    counts = Counter(recording.kind for recording in recordings)
    hours = dict.fromkeys(counts, 0.0)
    for recording in recordings:
        hours[recording.kind] += recording.seconds / _SECONDS_AN_HOUR
    lines = [f"| {kind} | {count} | {hours[kind]:.2f} |" for kind, count in counts.items()]
    return "\n".join(["| speech | recordings | hours |", "|---|---|---|", *lines, ""])


def training_table(work: Path) -> str:
    """Steps, CPU hours and the best judgement of each training that has begun, in Markdown."""
    lines = ["| training | steps | CPU hours | best judgement |", "|---|---|---|---|"]
    for name in _TRAININGS:
        log = log_lines(work / name)
        if not log:
            continue
        judged = [line for line in log if "judge" in line]
        best = max(judged, key=lambda line: line[SCORE], default={})
        figures = {key: value for key, value in best.items() if key not in ("step", "cpu_s", "judge")}
        hours = log[-1]["cpu_s"] / _SECONDS_AN_HOUR
        lines.append(
            f"| {Path(name).name} | {log[-1]['step']} | {hours:.2f} | {json.dumps(figures) if figures else '-'} |"
        )
    return "\n".join([*lines, ""])
