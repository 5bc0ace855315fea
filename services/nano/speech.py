"""Stage `speech`: speak the plan, one utterance after the other, into <work>/speech; stoppable at any moment.

Decides: how recordings are kept: one FLAC file (16 bit, at the source's rate) an utterance, and one line a recording in
manifest.jsonl, written after its file. An utterance whose line exists is never made again.
Refuses to know: why an utterance is wanted, and everything that is learned from it.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from services.nano.alignment import TimedSpeech
from services.nano.domain import build_domain
from services.nano.espeak import espeak
from services.nano.kokoro import AMERICAN, Kokoro
from services.nano.packages import FOLDER as PACKAGES_FOLDER
from services.nano.phones import Phone, phones_of
from services.nano.plan import EspeakDelivery, Kind, Utterance, build_plan
from services.nano.pronunciation import write_pronunciations
from services.shared.errors import NothingToSpeakError

FOLDER: Final = "speech"
MANIFEST_FILE: Final = "manifest.jsonl"
PAUSE_FILE: Final = "PAUSE"
_PEAK: Final = 0.98
_PAUSE_POLL_S: Final = 2.0
_LOG_EVERY: Final = 100

_log = logging.getLogger(__name__)

Speaker = Callable[[Utterance], TimedSpeech]


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of the manifest.

    Attributes:
        identity: of the utterance.
        kind, text, style, round: as in the plan.
        voices: pairs of (voice, weight); espeak-ng's voice with weight 1.
        path: of the FLAC file.
        sample_rate_hz: of the file.
        symbols: as the source gave them.
        ends_samples: where each symbol ends.
    """

    identity: str
    kind: Kind
    text: str
    style: str
    round: int
    voices: tuple[tuple[str, float], ...]
    path: Path
    sample_rate_hz: int
    symbols: tuple[str, ...]
    ends_samples: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.ends_samples[-1] / self.sample_rate_hz

    @property
    def phones(self) -> list[Phone]:
        """Classes and times of the sounds."""
        return phones_of(self.symbols, self.ends_samples)


def run(work: Path, *, pause_file: Path | None = None, limit: int | None = None) -> None:
    """Write how the vocabulary sounds, and speak what is missing of the plan, a like share of every kind at any time.

    Args:
        work: the working folder; the stage `packages` has run there.
        pause_file: while this file exists, nothing is spoken; default <work>/PAUSE.
        limit: stop after this many new recordings.
    """
    domain = build_domain()
    write_pronunciations(domain.words, work, lambda word: espeak().ipa(word, AMERICAN))
    plan = side_by_side(build_plan(domain))
    speak_all(plan, work, speaker_of(work), pause_file=pause_file or work / PAUSE_FILE, limit=limit)


def side_by_side(plan: Sequence[Utterance]) -> list[Utterance]:
    """The kinds in step with each other, so that whoever stops early has as much of each as of the others."""
    counts = Counter(utterance.kind for utterance in plan)
    places: Counter[str] = Counter()
    shares = []
    for utterance in plan:
        places[utterance.kind] += 1
        shares.append(places[utterance.kind] / counts[utterance.kind])
    return [plan[place] for place in sorted(range(len(plan)), key=shares.__getitem__)]


def speaker_of(work: Path) -> Speaker:
    """Kokoro and espeak-ng, each for its utterances; the stage `packages` has run."""
    kokoro = Kokoro(work / PACKAGES_FOLDER, espeak())

    def speak(utterance: Utterance) -> TimedSpeech:
        delivery = utterance.delivery
        if isinstance(delivery, EspeakDelivery):
            rate, pitch = delivery.words_per_minute, delivery.pitch
            return espeak().speak(utterance.text, delivery.voice, words_per_minute=rate, pitch=pitch)
        return kokoro.speak(utterance.text, delivery)

    return speak


def speak_all(
    plan: Sequence[Utterance], work: Path, speak: Speaker, *, pause_file: Path, limit: int | None = None
) -> None:
    """Record every utterance of the plan that has no line in the manifest yet."""
    done = {row["identity"] for row in _rows(work)}
    missing = [utterance for utterance in plan if utterance.identity not in done][:limit]
    _log.info("speech: %d of %d utterances are there, %d to make", len(plan) - len(missing), len(plan), len(missing))
    audio_s, started_s = 0.0, time.process_time()
    for count, utterance in enumerate(missing, start=1):
        while pause_file.exists():
            time.sleep(_PAUSE_POLL_S)
        try:
            audio_s += _record(work, utterance, speak(utterance))
        except NothingToSpeakError as error:
            _log.warning("skipped: %s", error)
        if count % _LOG_EVERY == 0 or count == len(missing):
            cpu_s = time.process_time() - started_s
            what = (count, len(missing), utterance.kind, audio_s, cpu_s)
            _log.info("speech: %d of %d made, now %s; since the last line %.0f s of audio in %.0f CPU-s", *what)
            audio_s, started_s = 0.0, time.process_time()


def read_recordings(work: Path) -> list[Recording]:
    """All recordings that belong to today's plan, in the plan's order."""
    return recordings_of(work, build_plan(build_domain()))


def recordings_of(work: Path, plan: Sequence[Utterance]) -> list[Recording]:
    """Recordings of the utterances that have one, in this order."""
    rows = {row["identity"]: row for row in _rows(work)}
    identities = (utterance.identity for utterance in plan)
    return [_recording(work, rows[identity]) for identity in identities if identity in rows]


def _recording(work: Path, row: dict[str, Any]) -> Recording:
    return Recording(
        identity=row["identity"],
        kind=row["kind"],
        text=row["text"],
        style=row["style"],
        round=row["round"],
        voices=tuple((name, weight) for name, weight in row["voices"]),
        path=_path(work, row["kind"], row["identity"]),
        sample_rate_hz=row["sample_rate_hz"],
        symbols=tuple(row["symbols"]),
        ends_samples=tuple(row["ends_samples"]),
    )


def _record(work: Path, utterance: Utterance, speech: TimedSpeech) -> float:
    """Write the file, then the line.

    Returns:
        seconds of audio.
    """
    path = _path(work, utterance.kind, utterance.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    peak = float(np.abs(speech.samples).max(initial=0.0))
    samples = speech.samples * (_PEAK / peak) if peak > _PEAK else speech.samples
    partial = path.with_suffix(".partial")
    soundfile.write(partial, samples, speech.sample_rate_hz, format="FLAC", subtype="PCM_16")
    partial.rename(path)
    delivery = asdict(utterance.delivery)
    row = {
        "identity": utterance.identity,
        "kind": utterance.kind,
        "text": utterance.text,
        "style": utterance.style,
        "round": utterance.round,
        "voices": delivery.get("voices") or [[delivery["voice"], 1.0]],
        "delivery": delivery,
        "sample_rate_hz": speech.sample_rate_hz,
        "symbols": speech.symbols,
        "ends_samples": speech.ends_samples,
    }
    with (work / FOLDER / MANIFEST_FILE).open("a", encoding="utf-8") as manifest:
        manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
    return speech.samples.size / speech.sample_rate_hz


def _rows(work: Path) -> Iterator[dict[str, Any]]:
    """Lines of the manifest; a line cut off by a stop is no line."""
    path = work / FOLDER / MANIFEST_FILE
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    for line in text.splitlines():
        yield json.loads(line)


def _path(work: Path, kind: str, identity: str) -> Path:
    return work / FOLDER / kind / identity[:2] / f"{identity}.flac"
