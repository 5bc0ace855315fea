"""Is what callers hear over the wire understood as often as what the offline pipeline says?

    python -m benchmarks.wire_speech [--questions N] [--quick] [--json FILE]

    question ─┬─ client ─ gRPC ─ orchestrator ─ Triton rooms, streamed ─> reply ─┐
              └─ the rooms in this process, each at once to its end ────> reply ─┴─ recogniser ─> words ─ compare

The same questions with the same seeds; the words wanted are those of the reply's own text. Questions are those of the
held evaluation: phrasings and voices that no training has heard. The recogniser is Whisper tiny.en (extra `judge`).

An exact reply is one of which the recogniser writes every word, an understood one has at most one word in five wrong.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from benchmarks.nano.figures import error_rate, rate, word_errors
from benchmarks.nano.judges import Recogniser, at_16k, recognisers
from benchmarks.report import machine, table, write_json
from benchmarks.wire import HEARD_RATE_HZ, REPLY_RATE_HZ, SEED, Manner, Place, ask
from services.local.record import read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.nano.evaluation import MANIFEST_FILE, NEW_TO_NEW
from services.offline.pipeline import ChatOptions, OfflinePipeline
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import read_audio
from services.shared.errors import MissingFileError, StepAudioError
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT
from stepaudio.formats import Samples
from stepaudio.sources import read_speech

QUESTIONS: Final = Path(__file__).parent / "data" / "nano_evaluation"
QUICK_QUESTIONS: Final = 12
UNDERSTOOD_WER: Final = 0.2
WIRE, OFFLINE = "over the wire", "offline"


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply as text, and what the recogniser writes of its sound; no text where none came.

    Attributes:
        way: WIRE or OFFLINE.
        question: name of its clip.
        replied, judged: the texts.
    """

    way: str
    question: str
    replied: str
    judged: str

    @property
    def errors(self) -> tuple[int, int]:
        """Words that are wrong, of how many."""
        return word_errors(self.judged, self.replied)

    @property
    def is_exact(self) -> bool:
        """Every word was understood."""
        return bool(self.replied) and not self.errors[0]

    @property
    def is_understood(self) -> bool:
        """Nearly every word was."""
        wrong, words = self.errors
        return bool(words) and wrong <= UNDERSTOOD_WER * words


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_QUESTIONS} questions")
    parser.add_argument("--json", type=Path, help="also write every reply to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judges = recognisers()
    if not judges:
        raise MissingFileError("no recogniser is installed; install the extra `judge`")
    name, judge = next(iter(judges.items()))
    print(machine())
    clips = plain_questions()[: QUICK_QUESTIONS if arguments.quick else arguments.questions]
    with tempfile.TemporaryDirectory() as folder:
        settings = LocalSettings(run_folder=Path(folder))
        system = LocalSystem(settings, notify=lambda step: None, rooms_only=False)
        try:
            found = asyncio.run(over_the_wire(system, settings, clips, judge))
        finally:
            system.stop()
    found += offline(settings.checkpoints, clips, judge)
    print(f"\njudge: {name}\n\n{report(found)}")
    write_json(arguments.json, [asdict(spoken) for spoken in found])


def plain_questions() -> list[Path]:
    """Clips of questions that stand alone: without facts in the prompt and words before them."""
    lines = map(json.loads, (QUESTIONS / MANIFEST_FILE).read_text(encoding="utf-8").splitlines())
    return [
        QUESTIONS / line["file"]
        for line in lines
        if line["group"] == NEW_TO_NEW and not line["facts"] and not line["history"]
    ]


async def over_the_wire(
    system: LocalSystem, settings: LocalSettings, clips: Sequence[Path], judge: Recogniser
) -> list[Spoken]:
    """Ask the whole system."""
    await system.start()
    record = read_record(settings.run_folder)
    assert record is not None  # it was written by the start
    found = []
    for clip in clips:
        wait, samples = await ask(Place.of(record), read_speech(clip, HEARD_RATE_HZ), Manner())
        found.append(judged(WIRE, clip, wait.text, (samples, REPLY_RATE_HZ), judge))
    return found


def offline(checkpoints: Path, clips: Sequence[Path], judge: Recogniser) -> list[Spoken]:
    """Ask the rooms in this process; a reply that cannot be spoken counts as not understood."""
    pipeline = OfflinePipeline(checkpoints)
    chat, options = ChatOptions(system=CHAT_SYSTEM_PROMPT, seed=SEED), SpeechOptions(seed=SEED)
    found = []
    for clip in clips:
        try:
            answer = pipeline.ask(read_audio(clip), chat, options)
        except StepAudioError:
            found.append(Spoken(OFFLINE, clip.name, "", ""))
            continue
        sound = answer.speech.samples, answer.speech.sample_rate_hz
        found.append(judged(OFFLINE, clip, answer.text, sound, judge))
    return found


def judged(way: str, clip: Path, replied: str, sound: tuple[Samples, int], judge: Recogniser) -> Spoken:
    """A reply with what the recogniser writes of it."""
    samples, rate_hz = sound
    heard = judge(at_16k(samples, rate_hz)) if len(samples) else ""
    return Spoken(way, clip.name, replied.strip(), heard)


def report(found: Sequence[Spoken]) -> str:
    """The table of both ways, and how often they said the same."""
    ways = {way: [spoken for spoken in found if spoken.way == way] for way in (WIRE, OFFLINE)}
    same = sum(a.replied == b.replied for a, b in zip(*ways.values(), strict=True))
    alike = sum(a.is_understood == b.is_understood for a, b in zip(*ways.values(), strict=True))
    header = ("way", "replies", "exact", "understood", "word error rate")
    rows = [
        (
            way,
            len(spoken),
            rate([one.is_exact for one in spoken]),
            rate([one.is_understood for one in spoken]),
            error_rate([one.errors for one in spoken]),
        )
        for way, spoken in ways.items()
    ]
    count = len(ways[WIRE])
    return f"{table(header, rows)}\n\nThe same words for {same} of {count}; the same verdict for {alike} of {count}."


if __name__ == "__main__":
    main()
