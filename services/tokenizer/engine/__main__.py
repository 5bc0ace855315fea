"""Composition root of the tokenizer's engine build: `python -m services.tokenizer.engine [--cache FOLDER]`."""

import sys

from services.shared.graphs.command import run_export
from services.shared.paths import TOKENIZER_FOLDER
from services.tokenizer.engine.export import ensure_tokenizer_graphs
from services.tokenizer.graphs import ROOM

if __name__ == "__main__":
    sys.exit(
        run_export(ROOM, lambda checkpoints, cache: ensure_tokenizer_graphs(checkpoints / TOKENIZER_FOLDER, cache))
    )
