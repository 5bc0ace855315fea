"""Recorded speech as training reads it: 16 kHz samples in one file, and a phone class for any moment.

Decides: which recordings are held out for judging. Refuses to know: networks, and why an utterance was recorded.

    <work>/train/audio/samples.i16     all utterances, one behind the other
    <work>/train/audio/index.jsonl     one line an utterance, written after its samples; new recordings are appended
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.phones import LABELS
from services.nano.speech import Recording, read_recordings
from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample

RATE_HZ: Final = 16_000
FOLDER: Final = "train/audio"
JUDGED_IN: Final = 100
"""One recording in so many is held out for judging networks while they learn."""
_SCALE: Final = 32_767.0
_SAMPLES_FILE: Final = "samples.i16"
_INDEX_FILE: Final = "index.jsonl"
_LOG_EVERY: Final = 2000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance.

    Attributes:
        recording: where it comes from.
        samples_i16: [N] at 16 kHz.
        labels: [P] class numbers, places in `phones.LABELS`.
        ends_s: [P] when each phone ends.
    """

    recording: Recording
    samples_i16: NDArray[np.int16]
    labels: NDArray[np.int64]
    ends_s: NDArray[np.float64]

    @property
    def samples(self) -> NDArray[np.float32]:
        """[N] float32 in [-1, 1]."""
        return self.samples_i16.astype(np.float32) / np.float32(_SCALE)

    @property
    def is_judged(self) -> bool:
        """Whether it is held out of training."""
        return self.recording.kind == "evaluation" or int(self.recording.identity[:8], 16) % JUDGED_IN == 0

    def labels_at(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Class at each moment; silence outside the utterance."""
        place = np.searchsorted(self.ends_s, times_s, side="right")
        inside = (times_s >= 0) & (place < len(self.labels))
        return np.where(inside, self.labels[np.minimum(place, len(self.labels) - 1)], 0)


def read_clips(work: Path) -> list[Clip]:
    """All recordings so far, in the plan's order; those that are new are resampled and appended first."""
    folder = work / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    recordings = read_recordings(work)
    _append(recordings, folder)
    spans = _spans(folder)
    path = folder / _SAMPLES_FILE
    samples = np.memmap(path, np.int16, mode="r") if path.exists() and path.stat().st_size else np.zeros(0, np.int16)
    return [_clip(recording, samples, *spans[recording.identity]) for recording in recordings]


def _clip(recording: Recording, samples: NDArray[np.int16], start: int, count: int) -> Clip:
    phones = recording.phones
    labels = np.array([LABELS.index(phone.label) for phone in phones], np.int64)
    ends_s = np.array([phone.end_samples for phone in phones], np.float64) / recording.sample_rate_hz
    return Clip(recording, samples[start : start + count], labels, ends_s)


def _append(recordings: Sequence[Recording], folder: Path) -> None:
    known = _spans(folder)
    missing = [recording for recording in recordings if recording.identity not in known]
    end = max((start + count for start, count in known.values()), default=0)
    if not missing:
        return
    with (folder / _SAMPLES_FILE).open("ab") as data, (folder / _INDEX_FILE).open("a") as index:
        data.truncate(end * 2)  # samples without a line belong to an utterance that was cut off by a stop
        data.seek(end * 2)
        for number, recording in enumerate(missing, start=1):
            audio = read_audio(recording.path)
            samples = resample(audio.samples, audio.sample_rate_hz, RATE_HZ)
            data.write((samples.clip(-1.0, 1.0) * _SCALE).astype("<i2").tobytes())
            data.flush()
            index.write(json.dumps([recording.identity, end, len(samples)]) + "\n")
            end += len(samples)
            if number % _LOG_EVERY == 0 or number == len(missing):
                _log.info("audio: %d of %d new recordings resampled", number, len(missing))


def _spans(folder: Path) -> dict[str, tuple[int, int]]:
    """Start and length of each utterance by identity; a line cut off by a stop is removed from the file."""
    path = folder / _INDEX_FILE
    if not path.exists():
        return {}
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    return {identity: (start, count) for identity, start, count in map(json.loads, text.splitlines())}
