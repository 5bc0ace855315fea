"""Composition root of the vocoder's engine build: `python -m services.vocoder.engine [--cache FOLDER]`."""

import sys

from services.shared.graphs.command import run_export
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.engine.export import ensure_vocoder_graphs
from services.vocoder.graphs import ROOM

if __name__ == "__main__":
    sys.exit(
        run_export(
            ROOM, lambda checkpoints, cache: ensure_vocoder_graphs(checkpoints / TTS_FOLDER / VOCODER_FOLDER, cache)
        )
    )
