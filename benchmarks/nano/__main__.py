"""Measure a nano checkpoint: what it understands, what it replies, how it sounds; figures beside their goals.

Questions come from benchmarks/data/nano_evaluation, recorded by voices and in phrasings that no training saw; what is
spoken is judged by recognisers from outside (see `benchmarks.nano.judges`). Everything runs on one thread.

    python -m benchmarks.nano [--checkpoints FOLDER] [--quick] [--output FOLDER]

Below the output folder: index.html with clips and spectrograms, table.md, outcomes.json.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch

from benchmarks.nano import asking, judges
from benchmarks.nano.asking import Examiner, Outcome
from benchmarks.nano.page import write_page
from benchmarks.nano.report import Figure, figure_table, figures, opinion_figures, voice_figures
from benchmarks.report import machine
from services.nano.domain import build_domain
from services.nano.evaluation import Asked, read_set
from services.offline.pipeline import OfflinePipeline
from services.offline.settings import NANO_CHECKPOINTS
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import read_audio

SET: Final = Path(__file__).parents[1] / "data" / "nano_evaluation"
HUMAN: Final = Path("/usr/share/pocketsphinx/test/data")
QUICK_ITEMS: Final = 6
PARTS: Final = ("questions", "sentences", "clones", "streams", "human")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was chosen, print the table, write the page."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    asked = read_set(chosen.set)
    limit = chosen.items or (QUICK_ITEMS if chosen.quick else None)
    options = SpeechOptions(seed=chosen.seed, temperature=chosen.speech_temperature)
    recognisers = judges.recognisers()
    pipeline = OfflinePipeline(chosen.checkpoints)
    examiner = Examiner(pipeline, recognisers, limit, options, chosen.temperature)
    notes = [] if recognisers else ["no judge is installed: nothing spoken was judged (extra `judge`)"]
    if "human" in chosen.parts and not asking.human_clips(chosen.human):
        notes.append(f"no human clips: {chosen.human} does not exist (Debian's pocketsphinx-testdata)")
    outcomes = [outcome for part in _parts(examiner, asked, chosen) for outcome in part()]
    found = figures(outcomes, frozenset(build_domain().words))
    found += _measured_elsewhere(examiner, asked, outcomes, chosen.set, notes)
    _show(found, outcomes, notes, chosen)


def _parts(examiner: Examiner, asked: list[Asked], chosen: argparse.Namespace) -> list[Callable[[], Iterator[Outcome]]]:
    every: dict[str, Callable[[], Iterator[Outcome]]] = {
        "questions": lambda: asking.questions(examiner, asked, chosen.set),
        "sentences": lambda: asking.sentences(examiner, asked, chosen.set),
        "clones": lambda: asking.clones(examiner, asked, chosen.set),
        "streams": lambda: asking.streams(examiner, asked),
        "human": lambda: asking.human(examiner, chosen.human),
    }
    return [every[name] for name in PARTS if name in chosen.parts]


def _measured_elsewhere(
    examiner: Examiner, asked: list[Asked], outcomes: list[Outcome], folder: Path, notes: list[str]
) -> list[Figure]:
    """Figures by the models of speakers and of opinions, where they are installed; else a note."""
    found: list[Figure] = []
    speakers, opinion = judges.speaker_model(), judges.opinion_model()
    if speakers is None:
        notes.append("voices were not compared: pip install --no-deps Resemblyzer==0.1.4")
    else:
        registry = examiner.pipeline.rooms.voices
        clips = {name: registry.get(name).audio() for name in examiner.voices}
        cloned = {outcome.group for outcome in outcomes if outcome.part == asking.CLONED}
        clips |= {one.voice: read_audio(folder / one.file) for one in asked if one.voice in cloned}
        heard = {name: judges.at_16k(clip.samples, clip.sample_rate_hz) for name, clip in clips.items()}
        found += voice_figures(outcomes, speakers, heard)
    if opinion is None:
        notes.append("no opinion scores: pip install --no-deps speechmos==0.0.1.1")
    else:
        found += opinion_figures(outcomes, opinion)
    return found


def _show(found: list[Figure], outcomes: list[Outcome], notes: list[str], chosen: argparse.Namespace) -> None:
    table = figure_table(found)
    text = "\n".join([machine(), f"{chosen.checkpoints}, {len(outcomes)} outcomes, one thread", "", table, "", *notes])
    print(text)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "table.md").write_text(text + "\n", encoding="utf-8")
    plain = [asdict(replace(outcome, samples=None)) for outcome in outcomes]
    content = {"figures": [asdict(figure) for figure in found], "outcomes": plain}
    (chosen.output / "outcomes.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    page = write_page(chosen.output, outcomes, f"Nano checkpoint: {chosen.checkpoints}", table)
    print(f"\nTo look at and listen to: {page}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nano", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, default=NANO_CHECKPOINTS, help="folder of the three public folders")
    parser.add_argument("--set", type=Path, default=SET, help="folder of the evaluation set")
    parser.add_argument("--human", type=Path, default=HUMAN, help="pocketsphinx's test data")
    parser.add_argument("--output", type=Path, default=Path("out/nano"), help="where page, table and outcomes go")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; everything if left out"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ITEMS} items a group: a look, no measurement")
    parser.add_argument("--items", type=int, help="items a group at most")
    parser.add_argument("--seed", type=int, default=0, help="of sampling and noise")
    parser.add_argument("--temperature", type=float, help="of the chat model; the checkpoint's own if left out")
    parser.add_argument("--speech-temperature", type=float, help="of the speech model; likewise")
    return parser


if __name__ == "__main__":
    main()
