"""All recorded speech as codec values, several renditions of each clip, kept in two files.

    <work>/train/tokens/values.i16     codec values, one rendition behind the other
    <work>/train/tokens/index.jsonl    first line: the tokenizer they belong to; then one line a rendition

Decides: what a rendition is. An assistant's clip is trimmed by its phones' times; its rendition 0 is otherwise the
recording itself, later ones begin a little earlier and play faster or slower. A user's clip keeps silence around it and
is disturbed, but for rendition 0; the last of Kokoro's comes through a codec. Refuses to know: what is learned of it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.nano.training.augment import change_rate, coded, disturb
from services.nano.training.recorded import RATE_HZ, Clip
from services.shared.codec.codebooks import GROUP_MS, GROUP_TOKENS
from services.shared.paths import CENTROIDS_FILE, SEMANTIC_ONNX_FILE
from services.tokenizer.speech_tokenizer import SpeechTokens

FOLDER: Final = "train/tokens"
LEAD_S: Final = 0.06
TAIL_S: Final = 0.14
_SEED: Final = 20_261
_NOISY_SHARE: Final = 0.5
"""Of what comes through the codec."""
_VALUES_FILE: Final = "values.i16"
_INDEX_FILE: Final = "index.jsonl"
_SPOKEN_BY_US: Final = frozenset({"assistant", "everyday"})
_GROUP_SAMPLES: Final = RATE_HZ * GROUP_MS // 1000


class Tokenizer(Protocol):
    """What is asked of the tokenizer room."""

    def tokenize(self, samples: ArrayLike, sample_rate_hz: int, /) -> SpeechTokens:
        """Codes of an utterance."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rendition:
    """One clip, once.

    Attributes:
        identity: of the recording.
        number: which rendition; 0 is undisturbed.
        begin_s: where in the clip it begins; negative for silence before it.
        speed: seconds of the clip a second.
        values: [5 * groups] codec values.
    """

    identity: str
    number: int
    begin_s: float
    speed: float
    values: NDArray[np.int64]

    @property
    def seconds(self) -> float:
        """Length of what the values stand for."""
        return len(self.values) / GROUP_TOKENS * GROUP_MS / 1000


def renditions_of(clip: Clip) -> int:
    """How many renditions of a clip are made."""
    return {"assistant": 4, "everyday": 2, "user": 4, "espeak": 1}.get(clip.recording.kind, 1)


def sound_of(clip: Clip, number: int) -> tuple[NDArray[np.float32], float, float]:
    """Samples [N] at 16 kHz of a rendition, with its begin_s and speed; N is a whole number of groups."""
    rng = np.random.default_rng([_SEED, int(clip.recording.identity[:8], 16), number])
    ours = clip.recording.kind in _SPOKEN_BY_US
    speed, lead_s, tail_s = 1.0, LEAD_S, TAIL_S
    if ours and number:
        lead_s = LEAD_S + float(rng.uniform(0.0, 0.09))
        speed = float(rng.uniform(0.94, 1.07)) if number % 2 else 1.0
    elif not ours:
        speed = float(rng.uniform(0.92, 1.08)) if number and rng.random() < 0.6 else 1.0
        lead_s, tail_s = float(rng.uniform(0.0, 0.4)), float(rng.uniform(0.05, 0.35))
    first_s, last_s = _sounding(clip)
    begin_s, end_s = first_s - lead_s * speed, last_s + tail_s * speed
    samples = cut(clip.samples, RATE_HZ, begin_s, end_s)
    samples = samples if speed == 1.0 else change_rate(samples, speed)
    samples = np.pad(samples, (0, -len(samples) % _GROUP_SAMPLES))
    if ours or not number:
        return samples, begin_s, speed
    if clip.recording.kind != "user" or number < renditions_of(clip) - 1:
        return disturb(samples, rng), begin_s, speed
    return coded(disturb(samples, rng) if rng.random() < _NOISY_SHARE else samples, rng), begin_s, speed


def cut(samples: NDArray[np.float32], rate_hz: int, begin_s: float, end_s: float) -> NDArray[np.float32]:
    """Samples from one moment to another, with zeros outside of what there is."""
    begin, end = round(begin_s * rate_hz), round(end_s * rate_hz)
    inside = samples[max(begin, 0) : max(min(end, len(samples)), 0)]
    return np.pad(inside, (max(-begin, 0), max(end - max(begin, 0) - len(inside), 0)))


def make_missing(work: Path, clips: Sequence[Clip], tokenizer: Tokenizer, fingerprint: str) -> Iterator[int]:
    """Tokenise what has no values yet, yielding the count of new renditions so far; values of another tokenizer go."""
    folder = work / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / _INDEX_FILE
    if _lines(folder)[:1] != [fingerprint]:
        index.write_text(json.dumps(fingerprint) + "\n")
    rows = _rows(folder)
    done = {(row[0], row[1]) for row in rows}
    end = max((row[4] + row[5] for row in rows), default=0)
    made = 0
    with (folder / _VALUES_FILE).open("ab") as data, index.open("a") as log:
        data.truncate(2 * end)
        data.seek(2 * end)
        for clip in clips:
            for number in range(renditions_of(clip)):
                if (clip.recording.identity, number) in done:
                    continue
                samples, begin_s, speed = sound_of(clip, number)
                values = tokenizer.tokenize(samples, RATE_HZ).interleaved
                data.write(values.astype("<i2").tobytes())
                data.flush()
                log.write(json.dumps([clip.recording.identity, number, begin_s, speed, end, len(values)]) + "\n")
                end += len(values)
                made += 1
                yield made


def read_renditions(work: Path) -> dict[str, list[Rendition]]:
    """All renditions by recording, in order of their numbers."""
    folder = work / FOLDER
    rows = _rows(folder)
    values = np.fromfile(folder / _VALUES_FILE, "<i2").astype(np.int64) if rows else np.zeros(0, np.int64)
    found: dict[str, list[Rendition]] = {}
    for identity, number, begin_s, speed, start, count in rows:
        own = values[start : start + count]
        found.setdefault(identity, []).append(Rendition(identity, number, begin_s, speed, own))
    return found


def fingerprint_of(folder: Path) -> str:
    """A name of the tokenizer in a folder that changes with its files."""
    digest = hashlib.sha256()
    for path in (*sorted(folder.rglob("model.pt")), folder / CENTROIDS_FILE, folder / SEMANTIC_ONNX_FILE):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sounding(clip: Clip) -> tuple[float, float]:
    """When the first sound begins and the last one ends."""
    sounds = np.flatnonzero(clip.labels)
    if not len(sounds):
        return 0.0, float(clip.ends_s[-1])
    first = int(sounds[0])
    return (float(clip.ends_s[first - 1]) if first else 0.0), float(clip.ends_s[int(sounds[-1])])


def _lines(folder: Path) -> list[object]:
    path = folder / _INDEX_FILE
    if not path.exists():
        return []
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    return [json.loads(line) for line in text.splitlines()]


def _rows(folder: Path) -> list[tuple[str, int, float, float, int, int]]:
    rows: list[tuple[str, int, float, float, int, int]] = []
    for line in _lines(folder)[1:]:
        assert isinstance(line, list)
        identity, number, begin_s, speed, start, count = line
        rows.append((identity, number, begin_s, speed, start, count))
    return rows
