"""What the commands of the engine builds have in common: where checkpoints and graphs are, and the log."""

import argparse
import logging
from pathlib import Path


def command_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser that knows --checkpoints and --cache.

    Args:
        program: the command's name.
        description: what it does.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--checkpoints", type=Path, default=Path("model_repository/checkpoints/nano"))
    parser.add_argument("--cache", type=Path, default=Path("out/graphs"), help="as STEPAUDIO_GRAPH_CACHE of the rooms")
    return parser


def command_log(name: str) -> logging.Logger:
    """The log of a command, beside which only errors are shown: exporters tell of every step and missing package."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    return log
