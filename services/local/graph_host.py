"""Exports a room's graphs, if they are not there yet, and becomes the room's server.

    python -m services.local.graph_host ROOM CHECKPOINTS CACHE COMMAND …

    export, once a checkpoint and state of the code ─> exec COMMAND   with STEPAUDIO_ENGINE=onnxruntime
    export impossible                               ─> exec COMMAND   with STEPAUDIO_ENGINE=torch: the same, slower

One process, so that whatever ends the server ends an export as well; and the memory of the export is given back.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.shared.paths import TOKENIZER_FOLDER

GRAPH_ROOMS: Final = ("tokenizer", "vocoder")
"""Those whose networks have graphs."""
ONNX_RUNTIME, TORCH = "onnxruntime", "torch"


def export_tokenizer(checkpoints: Path, cache: Path) -> None:
    """Export the tokenizer's graphs. Raises what `ensure_tokenizer_graphs` does, and ImportError without its extra."""
    from services.tokenizer.engine.export import ensure_tokenizer_graphs

    ensure_tokenizer_graphs(checkpoints / TOKENIZER_FOLDER, cache)


def export_vocoder(checkpoints: Path, cache: Path) -> None:
    """Export the vocoder's graphs. Raises what `ensure_all_graphs` does, and ImportError without its extra."""
    from services.vocoder.engine.export import ensure_all_graphs

    ensure_all_graphs(checkpoints, cache)


def engine_after(export: Callable[[], None]) -> str:
    """The engine that can be used: ONNX Runtime if the export succeeds, else torch."""
    try:
        export()
    except Exception:  # whatever an exporter fails with, torch computes the same
        logging.getLogger(__name__).exception("no graphs could be exported; torch computes instead")
        return TORCH
    return ONNX_RUNTIME


def main(arguments: list[str]) -> None:
    """Run the program; it does not return."""
    logging.basicConfig(level=logging.ERROR)  # exporters tell of every step
    room, checkpoints, cache, *command = arguments
    export = {"tokenizer": export_tokenizer, "vocoder": export_vocoder}[room]
    engine = engine_after(lambda: export(Path(checkpoints), Path(cache)))
    os.execve(command[0], command, {**os.environ, "STEPAUDIO_ENGINE": engine})


if __name__ == "__main__":
    main(sys.argv[1:])
