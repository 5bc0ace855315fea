"""Composition root of the vocoder's engine build: `python -m services.vocoder.engine [--cache FOLDER]`."""

import sys

from services.shared.graphs.command import run_export
from services.vocoder.engine.export import ensure_all_graphs
from services.vocoder.graphs import ROOM

if __name__ == "__main__":
    sys.exit(run_export(ROOM, ensure_all_graphs))
