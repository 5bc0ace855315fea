"""The command of a room's engine build: export the graphs of a checkpoint, and say how far each is from torch."""

from collections.abc import Callable
from pathlib import Path

import torch

from services.shared.errors import StepAudioError
from services.shared.graphs.cache import GraphFolder
from services.shared.graphs.options import command_log, command_parser


def run_export(room: str, ensure: Callable[[Path, Path], GraphFolder], arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        room: its name.
        ensure: (folder of the three public folders, cache) -> whole graphs.
        arguments: of the command line; the process's own if left out.

    Returns:
        the exit code.
    """
    parser = command_parser(f"python -m services.{room}.engine", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    log = command_log(__name__)
    torch.set_num_threads(chosen.threads)
    try:
        exported = ensure(chosen.checkpoints, chosen.cache)
    except StepAudioError as error:
        log.error("error: %s", error)
        return 1
    log.info("%s", exported.path)
    for file, record in exported.records.items():
        parity = record.parity
        size_mib = (exported.path / file).stat().st_size / 2**20
        text = "%-26s %7.1f MiB, from torch at most %.1e, in the mean %.1e, where values reach %.2g"
        log.info(text, file, size_mib, parity.max_difference, parity.mean_difference, parity.scale)
    return 0
