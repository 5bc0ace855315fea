"""Exports a room's graphs, if they are not there yet, and becomes the room's server.

    python -m services.local.graph_host ROOM CHECKPOINTS CACHE COMMAND …

    export, once a checkpoint and state of the code ─> exec COMMAND   with STEPAUDIO_ENGINE=onnxruntime
    export impossible, or too slow to wait for      ─> exec COMMAND   with STEPAUDIO_ENGINE=torch: the same, slower

One process, so that whatever ends the server ends an export as well; and the memory of the export is given back.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from services.shared.paths import TOKENIZER_FOLDER

GRAPH_ROOMS: Final = ("tokenizer", "vocoder")
"""Those whose networks have graphs."""
ONNX_RUNTIME, TORCH = "onnxruntime", "torch"
_LONGEST_S: Final = 120
"""On an idle machine an export takes half a minute; on a busy one the system would never be ready."""


def export_tokenizer(checkpoints: Path, cache: Path) -> None:
    """Export the tokenizer's graphs. Raises what `ensure_tokenizer_graphs` does, and ImportError without its extra."""
    from services.tokenizer.engine.export import ensure_tokenizer_graphs

    ensure_tokenizer_graphs(checkpoints / TOKENIZER_FOLDER, cache)


def export_vocoder(checkpoints: Path, cache: Path) -> None:
    """Export the vocoder's graphs. Raises what `ensure_all_graphs` does, and ImportError without its extra."""
    from services.vocoder.engine.export import ensure_all_graphs

    ensure_all_graphs(checkpoints, cache)


def engine_after(export: Callable[[], None], *, longest_s: float = _LONGEST_S) -> str:
    """The engine that can be used: ONNX Runtime if the export succeeds in time, else torch."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    try:
        export()
    except Exception:  # whatever an exporter fails with, torch computes the same
        logging.getLogger(__name__).exception("no graphs could be exported; torch computes instead")
        return TORCH
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ONNX_RUNTIME


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError("the export took too long; the next start tries again, or `python -m services.<room>.engine`")


def main(arguments: list[str]) -> None:
    """Run the program; it does not return."""
    logging.basicConfig(level=logging.ERROR)  # exporters tell of every step
    room, checkpoints, cache, *command = arguments
    export = {"tokenizer": export_tokenizer, "vocoder": export_vocoder}[room]
    engine = engine_after(lambda: export(Path(checkpoints), Path(cache)))
    os.execve(command[0], command, {**os.environ, "STEPAUDIO_ENGINE": engine})


if __name__ == "__main__":
    main(sys.argv[1:])
