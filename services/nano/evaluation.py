"""Stage `evaluation`: the questions and sentences that benchmarks/nano.py asks, as a small set that needs no Kokoro.

    <set>/manifest.jsonl     one line an item: group, clip, text, voice, and what counts as right
    <set>/clips/*.ogg        mono, 16 kHz

Decides: which held-out texts are asked in which voices, how many of each group, and what was said before. Recordings
that are missing are made first, in the working folder. Refuses to know: models and judgements.
"""

import json
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from services.nano.domain import Domain, build_domain
from services.nano.grammar import FILLER, Item, Turn
from services.nano.kokoro import Delivery
from services.nano.plan import ASSISTANT_VOICES, HELD_OUT_VOICES, Utterance, build_plan
from services.nano.speech import recordings_of, speak_all, speaker_of
from services.nano.training.recorded import RATE_HZ
from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample
from services.shared.errors import MissingFileError

MANIFEST_FILE: Final = "manifest.jsonl"
CLIPS_FOLDER: Final = "clips"
NEW_TO_NEW: Final = "held-out phrasing, held-out voice"
SEEN_TO_NEW: Final = "seen phrasing, held-out voice"
NEW_TO_SEEN: Final = "held-out phrasing, training voice"
RECALL: Final = "name from the history, held-out voice"
SENTENCE: Final = "unseen sentence, assistant voice"
COUNTS: Final = {NEW_TO_NEW: 64, SEEN_TO_NEW: 60, NEW_TO_SEEN: 60, SENTENCE: 60}
_RECALL_QUESTIONS: Final = (("Tell me my name.", HELD_OUT_VOICES), ("What is my name?", HELD_OUT_VOICES[:1]))
_SEED: Final = 20_261
_LARGEST_BYTES: Final = 3_000_000
_CALLERS_COMPRESSION: Final = 0.93
"""Of Opus in libsndfile's scale, where 1 is the smallest file: 24 kbit/s, as calls come; 0.80 of the codes stay."""
_SENTENCES_COMPRESSION: Final = 0.8
"""56 kbit/s: 0.95 of the codes stay as they were, for what a sentence loses is to be the rooms' doing."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the manifest.

    Attributes:
        group: a key of COUNTS, or RECALL.
        file: the clip, below the set's folder.
        text: what is said in it.
        voice: who says it; the strongest voice of a mix.
        intent, facts, history, answers: see `services.nano.grammar.Item`; small talk is filled in.
    """

    group: str
    file: str
    text: str
    voice: str
    intent: str = ""
    facts: str = ""
    history: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def item(self) -> Item:
        """What `services.nano.domain.is_right` takes."""
        return Item(self.intent, self.text, self.answers, facts=self.facts, history=self.history)


def run(work: Path, target: Path, *, pause_file: Path) -> None:
    """Record what is missing and write the set.

    Args:
        work: the working folder; the stage `packages` has run there.
        target: the set's folder.
        pause_file: nothing is spoken while this file exists.

    Raises:
        MissingFileError: an utterance could not be spoken.
    """
    domain = build_domain()
    chosen = list(utterances(domain))
    plan = list(dict.fromkeys(utterance for _, utterance in chosen))
    if len(recordings_of(work, plan)) < len(plan):
        speak_all(plan, work, speaker_of(work), pause_file=pause_file)
    write_set(domain, chosen, work, target)


def utterances(domain: Domain) -> Iterator[tuple[str, Utterance]]:
    """(group, utterance) of everything that is asked, from the plan's own evaluation recordings where it has them."""
    planned = [utterance for utterance in build_plan(domain) if utterance.kind == "evaluation"]
    of_group: dict[str, list[Utterance]] = {group: [] for group in COUNTS}
    for utterance in planned:
        if group := _group(domain, utterance):
            of_group[group].append(utterance)
    # Two voices a text stand side by side in the plan; taking them by turns asks twice as many texts.
    for group in (NEW_TO_NEW, SENTENCE):
        of_group[group] = [u for place, u in enumerate(of_group[group]) if place % 4 in (0, 3)]
    for group, members in of_group.items():
        yield from ((group, utterance) for utterance in members[: COUNTS[group]])
    for text, voices in _RECALL_QUESTIONS:
        yield from ((RECALL, Utterance("evaluation", text, "", 0, Delivery(((voice, 1.0),)))) for voice in voices)


def write_set(domain: Domain, chosen: Sequence[tuple[str, Utterance]], work: Path, target: Path) -> None:
    """Write clips and manifest.

    Raises:
        MissingFileError: an utterance has no recording.
    """
    recordings = {one.identity: one for one in recordings_of(work, [utterance for _, utterance in chosen])}
    (target / CLIPS_FOLDER).mkdir(parents=True, exist_ok=True)
    lines: list[Asked] = []
    for group, utterance in chosen:
        if utterance.identity not in recordings:
            raise MissingFileError(f"{utterance.text!r} has no recording; run the stage `evaluation` again")
        recording = recordings[utterance.identity]
        file = f"{CLIPS_FOLDER}/{utterance.identity[:10]}.ogg"
        audio = read_audio(recording.path)
        samples = resample(audio.samples, audio.sample_rate_hz, RATE_HZ)
        samples = samples * np.float32(0.8 / max(float(np.abs(samples).max()), 1e-3))
        level = _SENTENCES_COMPRESSION if group == SENTENCE else _CALLERS_COMPRESSION
        soundfile.write(target / file, samples, RATE_HZ, format="OGG", subtype="OPUS", compression_level=level)
        lines += _asked(domain, group, file, (utterance.text, recording.voices[0][0]))
    text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    (target / MANIFEST_FILE).write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    _log.info("evaluation: %d items, %.2f MB in %s", len(lines), size / 1e6, target)
    if size > _LARGEST_BYTES:
        _log.warning("evaluation: the set is larger than %.0f MB", _LARGEST_BYTES / 1e6)


def read_set(folder: Path) -> list[Asked]:
    """The manifest of a set.

    Raises:
        MissingFileError: there is none.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; `python -m services.nano evaluation` writes it")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Asked(**{**row, "answers": tuple(row["answers"]), "history": tuple(Turn(**turn) for turn in row["history"])})
        for row in rows
    ]


def _group(domain: Domain, utterance: Utterance) -> str:
    """Which group an evaluation recording of the plan belongs to; "" for none."""
    assert isinstance(utterance.delivery, Delivery)
    voice = utterance.delivery.voices[0][0]
    if utterance.text in domain.held_out_sentences and voice in ASSISTANT_VOICES:
        return SENTENCE
    is_new = utterance.text in domain.held_out
    if voice in HELD_OUT_VOICES:
        return NEW_TO_NEW if is_new else SEEN_TO_NEW
    return NEW_TO_SEEN if is_new else ""


def _asked(domain: Domain, group: str, file: str, said: tuple[str, str]) -> list[Asked]:
    """The lines of one clip: one for each name where the answer lies in the history, else one."""
    text, voice = said
    if group == SENTENCE:
        return [Asked(group, file, text, voice)]
    items = [item for item in domain.items if item.question == text and item.role == "user"]
    rng = random.Random(f"{_SEED} {file}")
    items = [item for item in items if item.history] if group == RECALL else [rng.choice(items)]
    return [
        Asked(group, file, text, voice, item.intent, item.facts, tuple(_told(domain, item, rng)), item.answers)
        for item in items
    ]


def _told(domain: Domain, item: Item, rng: random.Random) -> Iterator[Turn]:
    """The history with small talk in place of its fillers."""
    plain = [one for one in domain.training if not one.history and not one.facts and one.role == "user"]
    for turn in item.history:
        if turn.text == FILLER:
            talk = rng.choice(plain)
            yield from (Turn("user", talk.question), Turn("assistant", talk.reply))
        else:
            yield turn
