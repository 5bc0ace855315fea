"""The tokenizer's exported graph: what it takes, and of what it is made.

    linguistic_encoder    windows, memory, masks ─> rows, memory after them

All layers of the SAN-M encoder over W windows of nine rows; the memory of keys and values goes in and comes out.
Cutting features into windows, positions and the five rows of overlap stay outside: they are a copy and a table. The
semantic encoder is an ONNX file of the checkpoint already.

Knows neither exporter nor runtime: `engine/` writes the graph, `onnx_networks` runs it.
"""

from pathlib import Path
from typing import Final

from services.shared import graphs
from services.shared.graphs.cache import content_key
from services.shared.graphs.spec import GraphSpec
from services.shared.paths import PARAFORMER_FOLDER
from services.shared.triton.tensors import DType
from services.tokenizer.paraformer.config import CONFIGURATION_FILE, FEATURE_DIM, EncoderConfig, read_folder
from services.tokenizer.paraformer.sanm import MEMORY_ROWS, NEW_ROWS, OVERLAP_ROWS

ROOM: Final = "tokenizer"
WINDOW_ROWS: Final = OVERLAP_ROWS + NEW_ROWS


def linguistic_encoder(config: EncoderConfig) -> GraphSpec:
    """The encoder over W windows of one utterance."""
    memory = (config.num_blocks, MEMORY_ROWS, 2 * config.output_size)
    return GraphSpec(
        "linguistic_encoder",
        {
            "windows": ("W", WINDOW_ROWS, FEATURE_DIM),
            "memory": memory,
            "visible": ("W", 1, 1, MEMORY_ROWS + WINDOW_ROWS),
            "present": ("W", WINDOW_ROWS, 1),
        },
        {"rows": ("W", NEW_ROWS, config.output_size), "next_memory": memory},
        {"visible": DType.BOOL},
    )


def graphs_key(folder: str | Path) -> str:
    """What the graph of a Step-Audio-Tokenizer folder is made of: its encoder, and the code of this room.

    Raises:
        MissingFileError, CorruptFileError, CheckpointError: the folder cannot be read.
    """
    model_folder = Path(folder) / PARAFORMER_FOLDER
    room, shared = Path(__file__).parent, Path(graphs.__file__).parent
    return content_key(
        files=[model_folder / CONFIGURATION_FILE, read_folder(model_folder).weights],
        code=[room / "graphs.py", room / "paraformer", room / "engine", shared / "export.py", shared / "spec.py"],
    )
