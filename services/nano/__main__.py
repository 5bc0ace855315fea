"""Composition root of the nano recipe: `python -m services.nano <stage> [--work FOLDER]`."""

import argparse
import logging
from pathlib import Path

from services.nano import domain, packages, speech


def main(arguments: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m services.nano", description="Train the nano checkpoint by stages.")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"), help="working folder (default: %(default)s)")
    stages = parser.add_subparsers(dest="stage", required=True)
    stages.add_parser("packages", help="fetch Kokoro-82M and its voices")
    stages.add_parser("domain", help="write the texts to domain.json and count them")
    speaking = stages.add_parser("speech", help="synthesise speech with phone times; continues where it was")
    speaking.add_argument("--pause-file", type=Path, help="nothing is spoken while this file exists")
    speaking.add_argument("--limit", type=int, help="stop after this many new recordings")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    match chosen.stage:
        case "packages":
            packages.run(chosen.work)
        case "domain":
            domain.run(chosen.work)
        case "speech":
            speech.run(chosen.work, pause_file=chosen.pause_file, limit=chosen.limit)


if __name__ == "__main__":
    main()
