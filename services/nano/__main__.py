"""Composition root of the nano recipe: `python -m services.nano <stage> [--work FOLDER]`."""

import argparse
import logging
from functools import partial
from pathlib import Path

import torch

from services.nano import domain, evaluation, export, packages, progress, speech, standing
from services.nano.flow import stage as flow
from services.nano.hift import stage as hift
from services.nano.lm import stage as lm
from services.nano.speaker import stage as speaker
from services.nano.tokenizers import stage as tokenizers
from services.nano.tokens import stage as tokens
from services.nano.training.loop import Budget

_EVALUATION_SET = Path("benchmarks/data/nano_evaluation")
_TRAININGS = {
    "tokenizers": (tokenizers.run, "train both speech tokenizers, make their codebooks, write their folder"),
    "tokens": (tokens.run, "write the text vocabulary, turn all recordings into codes"),
    "speaker": (speaker.run, "train the speaker encoder"),
    "tts_lm": (lm.run_tts, "train the speech model: text to codes"),
    "chat_lm": (lm.run_chat, "train the chat model: codes and text to text"),
    "flow": (flow.run, "train the vocoder's flow: codes to mel"),
    "hift": (hift.run, "train the vocoder's wave generator: mel to wave"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run one stage."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    match chosen.stage:
        case "packages":
            packages.run(chosen.work)
        case "domain":
            domain.run(chosen.work)
        case "speech":
            speech.run(chosen.work, pause_file=chosen.pause_file, limit=chosen.limit)
        case "evaluation":
            evaluation.run(chosen.work, chosen.to, pause_file=chosen.pause_file or chosen.work / speech.PAUSE_FILE)
        case "begin":
            standing.run(chosen.work, chosen.checkpoint)
        case "export":
            export.run(chosen.work)
        case "report":
            progress.run(chosen.work)
        case "all":
            _everything(chosen)
        case training:
            run = _TRAININGS[training][0]
            if training == "hift":
                run = partial(hift.run, adversarial=chosen.adversarial, from_nothing=chosen.from_nothing)
            finished = run(chosen.work, _budget(chosen), steps=chosen.steps)
            logging.info("%s: %s", training, "finished" if finished else "stopped; the same command goes on")


def _everything(chosen: argparse.Namespace) -> None:
    """Every stage in order, each going on where it was; stops behind the first that is not finished."""
    packages.run(chosen.work)
    domain.run(chosen.work)
    if not chosen.no_speech:
        speech.run(chosen.work, pause_file=chosen.pause_file, limit=chosen.limit)
    # What a standing checkpoint has lent is not trained: its networks know these codes and these speakers.
    names = [name for name in _TRAININGS if not (standing.begun_from(chosen.work) and name in standing.LENT)]
    for place, name in enumerate(names):
        if not _TRAININGS[name][0](chosen.work, _budget(chosen), steps=None):
            logging.info("all: %s stopped; left are %s, export", name, ", ".join(names[place:]))
            return
        logging.info("all: %s is finished; left are %s", name, ", ".join([*names[place + 1 :], "export"]))
    export.run(chosen.work)
    progress.run(chosen.work)


def _budget(chosen: argparse.Namespace) -> Budget:
    return Budget(minutes=chosen.minutes, pause_file=chosen.pause_file or chosen.work / speech.PAUSE_FILE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.nano", description="Train the nano checkpoint by stages.")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"), help="working folder (default: %(default)s)")
    stages = parser.add_subparsers(dest="stage", required=True)
    stages.add_parser("packages", help="fetch Kokoro-82M and its voices")
    stages.add_parser("domain", help="write the texts to domain.json and count them")
    speaking = stages.add_parser("speech", help="synthesise speech with phone times; continues where it was")
    speaking.add_argument("--pause-file", type=Path, help="nothing is spoken while this file exists")
    speaking.add_argument("--limit", type=int, help="stop after this many new recordings")
    asked = stages.add_parser("evaluation", help="record and write the set that benchmarks.nano asks")
    asked.add_argument("--to", type=Path, default=_EVALUATION_SET, help="the set's folder (default: %(default)s)")
    asked.add_argument("--pause-file", type=Path, help="nothing is spoken while this file exists")
    begun = stages.add_parser("begin", help="let trainings go on from a checkpoint instead of from nothing")
    begun.add_argument(
        "--checkpoint", type=Path, default=tokens.BASE.parent, help="folder (default: the one that ships)"
    )
    stages.add_parser("export", help="complete the checkpoint, open it, write its model card")
    stages.add_parser("report", help="say how far every training has come")
    everything = stages.add_parser("all", help="every stage in order, each going on where it was")
    everything.add_argument("--limit", type=int, help="make so many new recordings at most")
    everything.add_argument("--no-speech", action="store_true", help="train on the recordings there are")
    _add_budget(everything)
    for name, (_, what) in _TRAININGS.items():
        training = stages.add_parser(name, help=what)
        training.add_argument("--steps", type=int, help="length of the schedule; more than before goes on learning")
        _add_budget(training)
        if name == "hift":
            training.add_argument("--adversarial", action="store_true", help="go on against discriminators")
            training.add_argument("--from-nothing", action="store_true", help="begin with random weights")
    return parser


def _add_budget(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--pause-file", type=Path, help="nothing is computed while this file exists")
    stage.add_argument("--minutes", type=float, help="stop each training after this much time")


if __name__ == "__main__":
    main()
