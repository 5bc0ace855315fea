"""Composition root of the nano recipe: `python -m services.nano <stage> [--work FOLDER]`."""

import argparse
import logging
from pathlib import Path

import torch

from services.nano import domain, export, packages, progress, speech
from services.nano.flow import stage as flow
from services.nano.lm import stage as lm
from services.nano.speaker import stage as speaker
from services.nano.tokenizers import stage as tokenizers
from services.nano.tokens import stage as tokens
from services.nano.training.loop import Budget

_TRAININGS = {
    "tokenizers": (tokenizers.run, "train both speech tokenizers, make their codebooks, write their folder"),
    "tokens": (tokens.run, "write the text vocabulary, turn all recordings into codes"),
    "tts_lm": (lm.run_tts, "train the speech model: text to codes"),
    "chat_lm": (lm.run_chat, "train the chat model: codes and text to text"),
    "speaker": (speaker.run, "train the speaker encoder"),
    "flow": (flow.run, "train the vocoder's flow: codes to mel"),
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
        case "export":
            export.run(chosen.work)
        case "report":
            progress.run(chosen.work)
        case training:
            budget = Budget(minutes=chosen.minutes, pause_file=chosen.pause_file or chosen.work / speech.PAUSE_FILE)
            finished = _TRAININGS[training][0](chosen.work, budget, steps=chosen.steps)
            logging.info("%s: %s", training, "finished" if finished else "stopped; the same command goes on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.nano", description="Train the nano checkpoint by stages.")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"), help="working folder (default: %(default)s)")
    stages = parser.add_subparsers(dest="stage", required=True)
    stages.add_parser("packages", help="fetch Kokoro-82M and its voices")
    stages.add_parser("domain", help="write the texts to domain.json and count them")
    speaking = stages.add_parser("speech", help="synthesise speech with phone times; continues where it was")
    speaking.add_argument("--pause-file", type=Path, help="nothing is spoken while this file exists")
    speaking.add_argument("--limit", type=int, help="stop after this many new recordings")
    stages.add_parser("export", help="complete the checkpoint, open it, write its model card")
    stages.add_parser("report", help="say how far every training has come")
    for name, (_, what) in _TRAININGS.items():
        training = stages.add_parser(name, help=what)
        training.add_argument("--pause-file", type=Path, help="nothing is computed while this file exists")
        training.add_argument("--minutes", type=float, help="stop each training of the stage after this much time")
        training.add_argument("--steps", type=int, help="length of the schedule; more than before goes on learning")
    return parser


if __name__ == "__main__":
    main()
